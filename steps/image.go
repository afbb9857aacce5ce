package steps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// imageOutput is the name of an image step's only output: Ref is the image, Digest identifies what is in it.
const imageOutput = "image"

// baseHint says what to do about a base image that cannot be pulled. It needs nothing but the binary: dalirun finds an
// image of the name target.MadeBaseImage without a flag.
const baseHint = "name a Debian 12 image that is here with --base-image; or make one from Debian's packages " +
	"(`sudo apt-get install debootstrap`), which is found without the flag: " +
	"`sudo debootstrap --variant=minbase --include=ca-certificates bookworm base && sudo tar -C base -c . | " +
	"docker import --change 'CMD [\"bash\"]' - " + target.MadeBaseImage + "`"

const buildHint = "the build needs Debian's and PyPI's packages: check the network, and the proxy settings of the " +
	"container engine"

// imageStep holds what both kinds of image steps have in common.
type imageStep struct {
	id pipeline.ID
}

// ID returns exporter-image or server-image.
func (s *imageStep) ID() pipeline.ID { return s.id }

// Inputs are none.
func (s *imageStep) Inputs() []pipeline.Output { return nil }

// Outputs are the image.
func (s *imageStep) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: s.id, Name: imageOutput}}
}

// PullImage pulls one of NVIDIA's images unless it is here.
type PullImage struct {
	imageStep

	ref string

	locked lockedImage      `fact:"-"`
	images container.Images `fact:"-"`
	notes  imageNotes       `fact:"-"`
}

func newPullImage(id pipeline.ID, image target.ImageInfo, t Tools) *PullImage {
	return &PullImage{
		imageStep: imageStep{id}, ref: image.Ref, locked: lockedImage{image.Tagged, image.LockFile, t.Gone},
		images: t.Images, notes: imageNotes{t.KV},
	}
}

// Observe looks for the image in the container engine. If it is gone, its last digest still finds the results made with
// it.
func (s *PullImage) Observe(ctx context.Context, _ pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	image, err := s.images.Resolve(ctx, s.ref)
	if errors.Is(err, container.ErrNotFound) {
		return s.notes.absent(s.ref)
	}
	if err != nil {
		return pipeline.State{}, nil, err
	}
	value, err := s.value(image)
	return pipeline.State{Present: true}, pipeline.Values{imageOutput: value}, err
}

// Run pulls the image.
func (s *PullImage) Run(ctx context.Context, w *pipeline.Work) error {
	image, err := pull(ctx, s.images, w, s.ref, "check the name and the network; --registry names a mirror")
	if err == nil {
		err = s.notes.setPulled(s.ref, image)
	}
	if err != nil {
		return s.locked.explain(ctx, s.ref, err)
	}
	value, err := s.value(image)
	w.Set(imageOutput, value)
	return err
}

func (s *PullImage) value(image container.Image) (pipeline.Value, error) {
	if image.Digest != "" {
		return s.notes.present(s.ref, image.Digest, image)
	}
	if err := s.notes.setUnpublished(image.ID); err != nil { // loaded from a file, or built here
		return pipeline.Value{}, err
	}
	return s.notes.present(s.ref, image.ID, image)
}

// BuildImage makes a small local image from an embedded Dockerfile.
type BuildImage struct {
	imageStep

	image imageBuild

	base       lockedImage       `fact:"-"`
	locked     lockedPackages    `fact:"-"`
	images     container.Images  `fact:"-"`
	builder    container.Builder `fact:"-"`
	notes      imageNotes        `fact:"-"`
	containers containers        `fact:"-"`
}

func newBuildImage(id pipeline.ID, of target.Target, name string, t Tools) *BuildImage {
	return &BuildImage{
		imageStep: imageStep{id}, image: newImageBuild(of, t, name),
		base: lockedImage{of.BaseName, of.LockedBuilds.File, t.Gone}, locked: newLockedPackages(of, name),
		images: t.Images, builder: t.Builder, notes: imageNotes{t.KV}, containers: newContainers(t),
	}
}

// Observe looks for the image in the container engine. Its identity is the hash of the build and the package versions
// that the build resolved, since each build has another image ID. If the image is gone, its last identity still finds
// the results made with it.
func (s *BuildImage) Observe(ctx context.Context, _ pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	image, err := s.images.Resolve(ctx, s.image.tag())
	if errors.Is(err, container.ErrNotFound) {
		return s.notes.absent(s.image.tag())
	}
	if err != nil {
		return pipeline.State{}, nil, err
	}
	packages, ok := s.notes.packages(image)
	if !ok {
		return pipeline.State{Reason: "this cache does not know its package versions yet: they are read, and the " +
			"image, which is here, is not built"}, nil, nil
	}
	value, err := s.value(image, packages)
	return pipeline.State{Present: true}, pipeline.Values{imageOutput: value}, err
}

// Run builds the image if there is none, and reads its package versions.
func (s *BuildImage) Run(ctx context.Context, w *pipeline.Work) error {
	image, err := s.images.Resolve(ctx, s.image.tag())
	if errors.Is(err, container.ErrNotFound) {
		image, err = s.build(ctx, w)
	}
	if err != nil {
		return err
	}
	list, err := s.packages(ctx, w)
	if err != nil {
		return err
	}
	packages, err := s.notes.setPackages(image, list)
	if err != nil {
		return err
	}
	if err := s.locked.check(w, list); err != nil {
		return err
	}
	value, err := s.value(image, packages)
	w.Set(imageOutput, value)
	return err
}

func (s *BuildImage) build(ctx context.Context, w *pipeline.Work) (container.Image, error) {
	if s.builder == nil { // of a reload, whose target was decided where images were built
		return container.Image{}, pipeline.Faultf(pipeline.Environment,
			"--images ngc runs NVIDIA's, which are pulled",
			"what runs containers here builds no images, and the local ones have to be built")
	}
	const limit = 45 * time.Minute // seen: two minutes; a slow mirror takes longer
	ctx, cancel := context.WithTimeoutCause(ctx, limit, pipeline.Faultf(pipeline.Environment,
		buildHint,
		"build %s: it did not end within %s", s.image.tag(), limit))
	defer cancel()
	if _, err := s.images.Resolve(ctx, s.image.base); errors.Is(err, container.ErrNotFound) {
		base, err := pull(ctx, s.images, w, s.image.base, baseHint)
		if err == nil {
			err = s.notes.setPulled(s.image.base, base)
		}
		if err != nil {
			return container.Image{}, s.base.explain(ctx, s.image.base, err)
		}
	} else if err != nil {
		return container.Image{}, err
	}
	image, err := s.builder.Build(ctx, s.image.spec(), func(p container.Progress) {
		w.Emit(pipeline.Line{Text: p.Text})
		if p.Instruction != "" { // without its arguments, which can be a whole program
			w.Emit(pipeline.Progress{Text: fmt.Sprintf("%d/%d %s", p.Current, p.Total, p.Instruction)})
		}
	})
	if failed, ok := errors.AsType[*container.BuildError](err); ok {
		fault := &pipeline.Fault{
			Kind: pipeline.Environment, Err: err, Tail: lastOf(failed.Tail, tailLines),
			Hint: buildHint,
		}
		if hint, ok := remedy.Engine(err); ok {
			fault.Hint = hint
		}
		return container.Image{}, fault
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return image, err
}

// packages returns the list of package versions that each build leaves in its image.
func (s *BuildImage) packages(ctx context.Context, w *pipeline.Work) (string, error) {
	const limit = time.Minute // it prints a file
	ctx, cancel := context.WithTimeoutCause(ctx, limit, pipeline.Faultf(pipeline.Environment, remedy.EngineHangs,
		"read the package versions of %s: it did not end within %s", s.image.tag(), limit))
	defer cancel()
	spec := s.containers.spec(s.id, s.image.tag(), "cat", "/usr/share/dalirun/packages")
	var list bytes.Buffer
	c, err := s.containers.start(ctx, spec, container.Streams{Stdout: &list, Stderr: w.Lines()})
	if err != nil {
		return "", err
	}
	defer s.containers.remove(ctx, w, c)
	exit, err := c.Wait(ctx)
	if err != nil {
		return "", fmt.Errorf("read the package versions of %s: %w", s.image.tag(), inTime(ctx, err))
	}
	if exit.Code != 0 || list.Len() == 0 {
		return "", pipeline.Faultf(pipeline.Environment, "remove the image and run again",
			"%s does not say which packages it holds", s.image.tag())
	}
	return list.String(), nil
}

func (s *BuildImage) value(image container.Image, packages string) (pipeline.Value, error) {
	return s.notes.present(s.image.tag(), digest([]byte(s.image.hash()+" "+packages)), image)
}

// imageNotes remembers identity and environment of images that are or were here, by their references.
type imageNotes struct{ kv KV }

// present remembers the identity of ref, and the environment that steps read facts from.
func (n imageNotes) present(ref, id string, image container.Image) (pipeline.Value, error) {
	env, err := json.Marshal(image.Env)
	if err != nil {
		return pipeline.Value{}, err
	}
	for key, value := range map[string]string{identityKey(ref): id, envKey(id): string(env)} {
		if err := n.kv.Remember(key, value); err != nil {
			return pipeline.Value{}, err
		}
	}
	return pipeline.Value{Ref: ref, Digest: id}, nil
}

// noLocalImage begins the reason why an image is to be pulled or built.
const noLocalImage = "there is no local image"

// absent returns the state of an image that is not here. Its value has the identity that it had when it last was here.
func (n imageNotes) absent(ref string) (pipeline.State, pipeline.Values, error) {
	state := pipeline.State{Reason: noLocalImage + " " + ref}
	if id, ok := n.kv.Recall(identityKey(ref)); ok {
		return state, pipeline.Values{imageOutput: {Ref: ref, Digest: id}}, nil
	}
	return state, nil, nil
}

// RecallImage returns the remembered identity and environment of an image that was here, which spares a question to the
// registry.
func RecallImage(kv KV, ref string) (id string, env map[string]string, ok bool) {
	id, ok = kv.Recall(identityKey(ref))
	if !ok {
		return "", nil, false
	}
	text, ok := kv.Recall(envKey(id))
	if !ok || json.Unmarshal([]byte(text), &env) != nil {
		return "", nil, false
	}
	return id, env, true
}

func identityKey(ref string) string            { return "identity of " + ref }
func envKey(id string) string                  { return "environment of " + id }
func pulledKey(id string) string               { return "pulled image " + id }
func packagesKey(image container.Image) string { return "packages of " + image.ID }
func listKey(digest string) string             { return "list of packages " + digest }
func unpublishedKey(id string) string          { return "image of no registry " + id }

// packages returns the digest of a local image's list of package versions. A list that an older dalirun did not keep is
// read again.
func (n imageNotes) packages(image container.Image) (digest string, ok bool) {
	digest, ok = n.kv.Recall(packagesKey(image))
	if !ok {
		return "", false
	}
	_, ok = n.kv.Recall(listKey(digest))
	return digest, ok
}

// packageList returns a local image's list of package versions.
func (n imageNotes) packageList(image container.Image) (list string, ok bool) {
	digest, ok := n.kv.Recall(packagesKey(image))
	if !ok {
		return "", false
	}
	return n.kv.Recall(listKey(digest))
}

// setPulled notes that dalirun brought an image, whose reference was not here before. An image that has other names too
// was here under them, and is somebody else's.
func (n imageNotes) setPulled(ref string, image container.Image) error {
	if len(image.Tags) > 1 {
		return nil
	}
	return n.kv.Remember(pulledKey(image.ID), ref)
}

// Brought returns the reference by which dalirun pulled the image of an ID; ok is false if it did not bring it.
func Brought(kv KV, id string) (ref string, ok bool) { return kv.Recall(pulledKey(id)) }

// ImageRefs are the references of all images that runs of a target have to do with.
func ImageRefs(t target.Target, tools Tools) []string {
	if t.Source == target.NGC {
		return []string{t.Images.Exporter.Ref, t.Images.Server.Ref}
	}
	return []string{
		newImageBuild(t, tools, "exporter").tag(), newImageBuild(t, tools, "server").tag(), t.BaseImage,
	}
}

// setPackages remembers the list of an image, and returns its digest.
func (n imageNotes) setPackages(image container.Image, list string) (string, error) {
	sum := digest([]byte(list))
	if err := n.kv.Remember(listKey(sum), list); err != nil {
		return "", err
	}
	return sum, n.kv.Remember(packagesKey(image), sum)
}

// unpublished says whether what identifies an image is the container engine's ID: no registry gave a digest.
func (n imageNotes) unpublished(id string) bool {
	_, is := n.kv.Recall(unpublishedKey(id))
	return is
}

func (n imageNotes) setUnpublished(id string) error { return n.kv.Remember(unpublishedKey(id), "true") }

// environment returns the environment of an image by its digest, also if the image is gone.
func (n imageNotes) environment(image pipeline.Value) (map[string]string, error) {
	var env map[string]string
	text, ok := n.kv.Recall(envKey(image.Digest))
	if !ok {
		return env, nil
	}
	return env, json.Unmarshal([]byte(text), &env)
}

// pull pulls an image. hint says what to do about faults of the registry, beside a login. Of those of the container
// engine its error says it.
func pull(
	ctx context.Context, images container.Images, w *pipeline.Work, ref, hint string,
) (container.Image, error) {
	const limit = 2 * time.Hour // 20 GB over a slow line; progress shows meanwhile
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		pipeline.Faultf(pipeline.Environment, hint, "pull %s: it did not end within %s", ref, limit))
	defer cancel()
	image, err := images.Ensure(ctx, ref, func(p container.Progress) {
		w.Emit(pipeline.Progress{Text: p.Text, Current: p.Current, Total: p.Total, Unit: "B"})
	})
	if err == nil {
		return image, nil
	}
	if ctx.Err() != nil {
		return container.Image{}, context.Cause(ctx)
	}
	if _, ofEngine := remedy.Engine(err); ofEngine {
		return container.Image{}, err
	}
	if first, _ := remedy.Registry(err); first != "" {
		hint = first + "; or " + hint
	}
	return container.Image{}, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: hint}
}

func lastOf(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }
