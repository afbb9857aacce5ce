package target

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// NoLock names no lock, also where there is one.
const NoLock = "none"

// Locked is the lock of a request, and how strictly it is kept. It is zero without one.
type Locked struct {
	File   string     `json:"file,omitempty"` // absolute
	Lock   *lock.Lock `json:"lock,omitempty"`
	Frozen bool       `json:"frozen,omitempty"` // a difference refuses the run, and so does the lack of a lock
}

// LockedBuilds is what the lock says of the local images, whose packages are known only once they are built.
type LockedBuilds struct {
	File   string `json:"file,omitempty"`
	Frozen bool   `json:"frozen,omitempty"`
	// Packages are the versions of each image's packages for the container engine's platform, by name; nil without a lock
	// of local images.
	Packages map[string]map[string]string `json:"packages,omitempty"`
}

// mendLock is what to do where a run is another one than the lock's, which it may be meant to be.
func mendLock(file string, differences []lock.Change) string {
	// An image without a registry is known by its ID alone, which is another one wherever it is made.
	byID := func(d lock.Change) bool { return d.Fact == "image base id" }
	if slices.ContainsFunc(differences, byID) {
		return "the base image is of no registry, so that each machine makes its own: push one and name it with " +
			"--base-image, or bring it here with `docker save` and `docker load`"
	}
	update := "dalirun lock --update"
	if filepath.Base(file) != lock.File {
		update += " --lock " + shell.Quote(file)
	}
	return "`" + update + "` with the same flags locks this run; or drop what differs"
}

// locked returns the lock of the request if it is of this image source, else an empty one.
func (x *resolution) locked() lock.Lock {
	if l := x.request.Lock.Lock; l != nil && l.Source == string(x.target.Source) {
		return *l
	}
	return lock.Lock{}
}

// OfLock returns the request of a run that keeps to a lock, with its image source, its release and its images.
func (r Request) OfLock(file string, l lock.Lock) Request {
	r.Lock, r.Images = Locked{File: file, Lock: &l}, l.Source
	r.Release, r.BaseImage = l.Release, l.Images[lock.Base].Ref
	r.ExporterImage, r.ServerImage = "", ""
	if l.Source != lock.NGC {
		return r
	}
	of, err := release.Find(l.Release)
	if ref := l.Images[lock.Exporter].Ref; err != nil || !sameRelease(ref, of.ExporterRef("")) {
		r.ExporterImage = ref
	}
	if ref := l.Images[lock.Server].Ref; err != nil || !sameRelease(ref, of.ServerRef("")) {
		r.ServerImage = ref
	}
	return r
}

// decideFrozen refuses a run that must keep to a lock and has none.
func (x *resolution) decideFrozen(context.Context) {
	if asked := x.request.Lock; asked.Frozen && asked.Lock == nil {
		x.refuse(CheckLock, pipeline.Faultf(pipeline.Environment, "`dalirun lock` writes one; --lock FILE names another",
			"%s: there is no %s", x.request.Settings.Written("frozen", "true"), lock.File))
	}
}

// pinned returns the name by which an image of a role is pulled: that of its digest, if the lock has it. named says
// that the user named the image; one of a release is the same in each registry.
func (x *resolution) pinned(role, ref string, named bool) (pinned string, ok bool) {
	image := x.locked().Images[role]
	if image.Digest == "" || image.Ref != ref && (named || !sameRelease(image.Ref, ref)) {
		return "", false
	}
	return byDigest(ref, image.Digest), true
}

// byDigest is the name of an image with a digest in place of its tag.
func byDigest(ref string, digest lock.Digest) string {
	parsed, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref // it is refused where it is pulled
	}
	return reference.FamiliarName(parsed) + "@" + string(digest)
}

// sameRelease says whether two names are those of one image of a release, which mirrors have too.
func sameRelease(a, b string) bool {
	within := func(ref string) string {
		i := strings.LastIndex(ref, "/nvidia/")
		return ref[max(0, i):]
	}
	return strings.HasPrefix(within(a), "/nvidia/") && within(a) == within(b)
}

// lockedRelease is the release of NVIDIA's images in the lock; empty if nothing there is of a release.
func (x *resolution) lockedRelease() string {
	tag := x.locked().Release
	if _, err := release.Find(tag); err != nil {
		return "" // a newer dalirun knew it: decideLock tells of the difference
	}
	return tag
}

// decideLock compares what the run resolved with the lock.
func (x *resolution) decideLock(ctx context.Context) {
	asked, t := x.request.Lock, &x.target
	if asked.Lock == nil || t.Source == "" || x.refused(CheckImages) || x.refused(CheckRelease) || x.engineErr != nil {
		return
	}
	run, err := x.resolvedFacts(ctx)
	if err != nil {
		x.refuse(CheckLock, err)
		return
	}
	if t.Source == Local {
		t.LockedBuilds = LockedBuilds{File: asked.File, Frozen: asked.Frozen, Packages: map[string]map[string]string{}}
		for name, build := range x.locked().Builds {
			t.LockedBuilds.Packages[name] = build.Packages[lock.Platform(t.Arch)]
		}
	}
	differences := lock.Compare(*asked.Lock, run)
	if len(differences) == 0 {
		return
	}
	if asked.Frozen {
		x.refuse(CheckLock, FrozenFault(asked.File, differences))
		return
	}
	x.doubt(CheckLock, Differ(asked.File, differences), mendLock(asked.File, differences))
}

// FrozenFault refuses a run that differs from its lock, and says each difference in a line.
func FrozenFault(file string, differences []lock.Change) error {
	lines := make([]string, len(differences))
	for i, d := range differences {
		lines[i] = d.String()
	}
	return pipeline.Faultf(pipeline.Environment, mendLock(file, differences),
		"--frozen: the run is not that of %s:\n%s", file, strings.Join(lines, "\n"))
}

// few says some differences in one line, and how many there are.
func few(differences []lock.Change) string {
	const most = 3
	var parts []string
	for _, d := range differences[:min(most, len(differences))] {
		parts = append(parts, d.String())
	}
	if n := len(differences) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("and %d more, which --frozen lists", n))
	}
	return strings.Join(parts, "; ")
}

// Differ is the warning of a run that differs from its lock.
func Differ(file string, differences []lock.Change) string {
	return "the run is not that of " + file + ": " + few(differences)
}

// resolvedFacts are the facts of the run, as far as they are known before it begins.
func (x *resolution) resolvedFacts(ctx context.Context) (lock.Lock, error) {
	t := x.target
	run := t.LockFacts()
	if x.refused(CheckWeights) {
		run.Weights = lock.Weights{}
	}
	if t.Weights.Kind == File {
		sum, err := x.probes.Weights.FileSum(ctx, t.Weights.Path)
		if err != nil {
			return run, err
		}
		run.Weights.SHA256 = lock.Digest(sum)
	}
	for role, image := range run.Images {
		locked := x.locked().Images[role]
		if _, ok := x.pinned(role, image.Ref, role == lock.Base || x.namedRole(role)); ok {
			image.Ref, image.Digest = locked.Ref, locked.Digest // what the run pulls, from whichever registry
		}
		if locked.ID != "" && image.Ref == locked.Ref {
			id, err := x.localID(ctx, image.Ref)
			if err != nil {
				return run, err
			}
			image.ID = id
		}
		run.Images[role] = image
	}
	carried, err := x.probes.Program.Carried(ctx, t.Recipe, t.BaseImage, t.Arch)
	run.Scripts, run.Labels, run.Builds = carried.Scripts, carried.Labels, carried.Builds
	return run, err
}

func (x *resolution) namedRole(role string) bool {
	return role == lock.Exporter && x.request.ExporterImage != "" || role == lock.Server && x.request.ServerImage != ""
}

// localID is the ID of an image that no registry has; "none" if it is not here.
func (x *resolution) localID(ctx context.Context, ref string) (lock.Digest, error) {
	image, err := x.probes.Runtime.Resolve(ctx, ref)
	if errors.Is(err, container.ErrNotFound) {
		return "none", nil
	}
	return lock.Digest(image.ID), err
}

// Pinner says what a reference stands for in its registry now.
type Pinner interface {
	Pin(ctx context.Context, ref string) (registry.Pinned, error)
}

// Pin returns what the images of a target's lock are now, by role: their registries say so. An image that the container
// engine has without a digest was made here or loaded from a file, and is known by its ID. Where a registry cannot be
// asked, what the engine has is taken; doubts say so.
func Pin(
	ctx context.Context, t Target, registries Pinner, runtime RuntimeProbe,
) (images map[string]lock.Image, doubts []string, err error) {
	images = t.LockFacts().Images
	for role, image := range images {
		here, err := runtime.Resolve(ctx, image.Ref)
		isHere := err == nil
		if err != nil && !errors.Is(err, container.ErrNotFound) {
			return nil, nil, err
		}
		if isHere && here.Digest == "" {
			image.ID = lock.Digest(here.ID)
			images[role] = image
			doubts = append(doubts, image.Ref+" has no digest of a registry: the lock has its ID, and nobody can pull that")
			continue
		}
		now, err := registries.Pin(ctx, image.Ref)
		answer, isAnswer := errors.AsType[*registry.Error](err)
		switch {
		case err == nil:
			image.Digest, image.Platforms = lock.Digest(now.Digest), map[string]lock.Digest{}
			for arch, digest := range now.Manifests {
				image.Platforms[lock.Platform(arch)] = lock.Digest(digest)
			}
		case isHere && isAnswer && !answer.Final():
			image.Digest = lock.Digest(here.Digest)
			doubts = append(doubts, err.Error()+": what the container engine has of it is locked, whatever the tag is now")
		case isAnswer:
			return nil, nil, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: answer.Hint()}
		default:
			return nil, nil, err
		}
		images[role] = image
	}
	slices.Sort(doubts)
	return images, doubts, nil
}

// OnBase returns a target with local images on a base image as it was pinned.
func (t Target) OnBase(base lock.Image) Target {
	if t.Source == Local && base.Digest != "" {
		t.BaseName, t.BaseImage = base.Ref, byDigest(base.Ref, base.Digest)
	}
	return t
}

// LockFacts are the facts of a lock that the target itself says: the names of the images, where the weights are from,
// and the picture.
func (t Target) LockFacts() lock.Lock {
	l := lock.Lock{
		Source: string(t.Source), Release: t.Release.Tag, Images: map[string]lock.Image{},
		Weights: lock.Weights{Kind: string(t.Weights.Kind)},
	}
	if t.Recipe.Name != recipe.Default {
		l.Model = t.Recipe.Name
	}
	switch t.Source {
	case NGC:
		l.Images[lock.Exporter] = lock.Image{Ref: t.Images.Exporter.Name()}
		l.Images[lock.Server] = lock.Image{Ref: t.Images.Server.Name()}
	case Local:
		l.Images[lock.Base] = lock.Image{Ref: cmp.Or(t.BaseName, t.BaseImage)}
	}
	switch t.Weights.Kind {
	case Pretrained:
		l.Weights.URL, l.Weights.SHA256 = t.Weights.Remote.URL, lock.Digest("sha256:"+t.Weights.Remote.SHA256)
	case Random:
		l.Weights.Seed = t.Weights.Seed
	case File, AutoWeights:
	}
	if len(t.Picture.Data) > 0 {
		sum := sha256.Sum256(t.Picture.Data)
		l.Picture = lock.Digest("sha256:" + hex.EncodeToString(sum[:]))
	}
	return l
}

// GoneFault is the fault of a locked image that its registry has no more, or not whole. ref is by its digest, and
// tagged the name of which the lock has it. parts are the digests that are gone: its own, or those of what it consists
// of.
func GoneFault(ref, tagged, file string, parts []string) error {
	_, digest, _ := strings.Cut(ref, "@")
	what := tagged + ": its digest in " + file + ", " + digest + ", is not in its registry any more"
	if parts[0] != digest {
		what = fmt.Sprintf("%s: of its digest in %s, %s, the registry has lost %s", tagged, file, digest,
			strings.Join(parts, " and "))
	}
	hint := "push it again from where it is still, as a machine that has pulled it, or name a mirror that has it with " +
		"--registry; or `dalirun lock --update` takes what " + tagged + " is now"
	return pipeline.Faultf(pipeline.Environment, hint, "%s", what)
}
