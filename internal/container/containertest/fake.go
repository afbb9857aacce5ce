// Package containertest has a [container.Runtime] in memory for the tests of its users, and the contract that it and
// the real ones pass: [TestRunner], [TestImages], [TestBuilder].
package containertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// A Program is the main process of a fake container. It returns its exit code. The end of ctx is SIGKILL: what is
// written or returned after it is lost. The streams are never nil.
//
// [Terminated], [Listen], [OutOfMemory] and [HostPath] give a program the rest of its surroundings.
type Program func(ctx context.Context, spec container.Spec, out container.Streams) int

// Image is an image of a [Fake].
type Image struct {
	container.Image
	// Main is the entrypoint. An image without one is one whose command is missing: starting it fails, or under an
	// Init ends with 127.
	Main Program
	// Commands are the programs that Exec finds, by argv[0]; they see argv[1:] as the Command of the Spec.
	Commands map[string]Program
}

// Fake is a [container.Runtime] in memory. The zero value is ready to use and has no images. Set the exported fields
// before the first call.
type Fake struct {
	// About is what Info returns; InfoErr is returned instead where it is set.
	About   container.Info
	InfoErr error
	// Labels are put on every container, as those of an owner.
	Labels container.Labels
	// Copies is a folder in which each container gets copies of its inputs, as of an engine that has other folders. Where
	// it is empty, containers see the inputs themselves.
	Copies string
	// OnCreate and OnStart may fail a Run before the container exists, and after.
	OnCreate, OnStart func(context.Context, container.Spec) error
	// OnLogin returns the credentials of a registry. Without it there are none.
	OnLogin func(ctx context.Context, registry string) (container.Login, error)
	// OnResolve may fail a Resolve, or take its time.
	OnResolve func(ctx context.Context, ref string) error
	// OnPull may fail a Pull, or take its time.
	OnPull func(ctx context.Context, ref string, onProgress func(container.Progress)) error
	// OnBuild makes the image of a Build, which has the labels of the spec unless it has others. Without it, the image has
	// no Main.
	OnBuild func(context.Context, container.BuildSpec, func(container.Progress)) (Image, error)

	mu         sync.Mutex
	seq        int
	local      map[string]Image
	remote     map[string]Image
	containers map[string]*fakeContainer
	specs      []container.Spec
	pulls      []string
	builds     []container.BuildSpec
}

// AddLocal makes img present under ref.
func (f *Fake) AddLocal(ref string, img Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.local = put(f.local, ref, complete(ref, img))
}

// AddRemote makes img available to Pull under ref.
func (f *Fake) AddRemote(ref string, img Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remote = put(f.remote, ref, complete(ref, img))
}

// Prune makes a local image absent, as a prune by somebody else does.
func (f *Fake) Prune(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.local, ref)
}

// Specs returns the Spec of every Run in order, also of those that failed.
func (f *Fake) Specs() []container.Spec {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.specs)
}

// Pulls returns the references of every Pull in order, also of those that failed.
func (f *Fake) Pulls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pulls)
}

// Builds returns every BuildSpec in order, also of those that failed.
func (f *Fake) Builds() []container.BuildSpec {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.builds)
}

// NoBuilder returns the fake as a runtime that builds no images, and has it say so.
func (f *Fake) NoBuilder() container.Runtime {
	f.About.NoBuilder = true
	return struct{ container.Runtime }{f}
}

// Leaked returns the containers that were not removed, the oldest first.
func (f *Fake) Leaked() []container.Summary { return f.list(nil) }

// Remote reports what the fake says of itself.
func (f *Fake) Remote() bool { return f.About.Remote }

// Info returns About or InfoErr.
func (f *Fake) Info(ctx context.Context) (container.Info, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Info{}, err
	}
	return f.About, f.InfoErr
}

// Resolve returns a local image by reference or ID.
func (f *Fake) Resolve(ctx context.Context, ref string) (container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Image{}, err
	}
	if f.OnResolve != nil {
		if err := f.OnResolve(ctx, ref); err != nil {
			return container.Image{}, err
		}
	}
	img, err := f.image(ref)
	return img.Image, err
}

// ListImages returns the local images, each once, by their references.
func (f *Fake) ListImages(ctx context.Context) ([]container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []container.Image
	for _, ref := range slices.Sorted(maps.Keys(f.local)) {
		img := f.local[ref].Image
		same := func(other container.Image) bool { return other.ID == img.ID }
		i := slices.IndexFunc(all, same)
		if i < 0 {
			i = len(all)
			img.Tags, img.Digests = nil, nil
			all = append(all, img)
		}
		name, _, byDigest := strings.Cut(ref, "@")
		if !byDigest {
			all[i].Tags = append(all[i].Tags, ref)
			name = ref[:max(strings.LastIndexByte(ref, ':'), 0)]
		}
		if digest := name + "@" + img.Digest; img.Digest != "" && !slices.Contains(all[i].Digests, digest) {
			all[i].Digests = append(all[i].Digests, digest)
		}
	}
	return all, nil
}

// RemoveImage makes a local image absent, unless a container was made of it.
func (f *Fake) RemoveImage(ctx context.Context, id string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.image.ID == id {
			return fmt.Errorf("remove image %s: %w by %s", id, container.ErrInUse, c.Name())
		}
	}
	maps.DeleteFunc(f.local, func(_ string, img Image) bool { return img.ID == id })
	return nil
}

// Login returns what OnLogin does.
func (f *Fake) Login(ctx context.Context, registry string) (container.Login, error) {
	if f.OnLogin == nil {
		return container.Login{}, context.Cause(ctx)
	}
	return f.OnLogin(ctx, registry)
}

// Ensure makes an image that AddRemote gave local.
func (f *Fake) Ensure(ctx context.Context, ref string, onProgress func(container.Progress)) (container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Image{}, err
	}
	f.mu.Lock()
	f.pulls = append(f.pulls, ref)
	f.mu.Unlock()
	if f.OnPull != nil {
		if err := f.OnPull(ctx, ref, onProgress); err != nil {
			return container.Image{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	img, ok := find(f.remote, ref)
	if !ok {
		return container.Image{}, fmt.Errorf("pull %s: %w", ref, container.ErrNotFound)
	}
	if onProgress != nil {
		onProgress(container.Progress{Text: "pulled", Current: img.Size, Total: img.Size})
	}
	f.local = put(f.local, ref, img)
	return img.Image, nil
}

// Build makes an image with OnBuild.
func (f *Fake) Build(
	ctx context.Context, spec container.BuildSpec, onProgress func(container.Progress),
) (container.Image, error) {
	if err := context.Cause(ctx); err != nil {
		return container.Image{}, err
	}
	f.mu.Lock()
	f.builds = append(f.builds, spec)
	f.mu.Unlock()
	if onProgress == nil {
		onProgress = func(container.Progress) {}
	}
	img := Image{Image: container.Image{Labels: spec.Labels}}
	if f.OnBuild != nil {
		var err error
		if img, err = f.OnBuild(ctx, spec, onProgress); err != nil {
			return container.Image{}, err
		}
	}
	if img.Labels == nil {
		img.Labels = spec.Labels
	}
	f.AddLocal(spec.Tag, img)
	return f.Resolve(ctx, spec.Tag)
}

// Run starts the image's Main.
func (f *Fake) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	c, err := f.create(ctx, spec, out)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Step, err)
	}
	if err := f.start(ctx, c); err != nil {
		c.kill(codeKilled, false)
		f.forget(c.id)
		return nil, fmt.Errorf("run %s: %w", spec.Step, err)
	}
	return c, nil
}

func (f *Fake) create(ctx context.Context, spec container.Spec, out container.Streams) (*fakeContainer, error) {
	f.mu.Lock()
	f.specs = append(f.specs, spec)
	f.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	img, err := f.image(spec.Image)
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Concat(spec.Inputs, spec.Outputs) {
		if _, err := os.Stat(m.Source); err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	if spec.Network != container.NetworkPublish && len(spec.Publish) > 0 {
		return nil, fmt.Errorf("publishing ports needs network %q", container.NetworkPublish)
	}
	if f.OnCreate != nil {
		if err := f.OnCreate(ctx, spec); err != nil {
			return nil, err
		}
	}
	if spec.Inputs, err = f.inputs(spec); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	c := newFakeContainer(f, fmt.Sprintf("%064x", f.seq), img, spec, out)
	c.labels = maps.Clone(f.Labels)
	c.labels = put(c.labels, container.LabelStep, spec.Step)
	c.labels = put(c.labels, container.LabelRole, string(spec.Role))
	f.containers = put(f.containers, c.id, c)
	return c, nil
}

// inputs are what a container gets of a Spec's.
func (f *Fake) inputs(spec container.Spec) ([]container.Mount, error) {
	if f.Copies == "" {
		return spec.Inputs, nil
	}
	folder, err := os.MkdirTemp(f.Copies, "inputs-")
	if err != nil {
		return nil, err
	}
	copied := slices.Clone(spec.Inputs)
	for i, m := range copied {
		copied[i].Source = filepath.Join(folder, strconv.Itoa(i))
		if err := copyInput(m.Source, copied[i].Source); err != nil {
			return nil, err
		}
	}
	return copied, nil
}

// Inside returns where a path inside a container lies on the host.
func (f *Fake) Inside(id, inside string) (string, error) {
	f.mu.Lock()
	c, found := f.containers[id]
	f.mu.Unlock()
	if !found {
		return "", fmt.Errorf("container %s: %w", id, container.ErrNotFound)
	}
	path, _, err := HostPath(c.spec, inside)
	return path, err
}

func (f *Fake) start(ctx context.Context, c *fakeContainer) error {
	if f.OnStart != nil {
		if err := f.OnStart(ctx, c.spec); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if c.image.Main == nil && !c.spec.Init {
		return fmt.Errorf("start %s: the image's command does not exist", c.spec.Image)
	}
	if err := c.publish(ctx); err != nil {
		return err
	}
	c.start(ctx)
	return nil
}

// Open finds a container by ID or name.
func (f *Fake) Open(ctx context.Context, id string) (container.Container, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.id == id || c.Name() == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %s: %w", id, container.ErrNotFound)
}

// List returns the containers that carry all the given labels, the oldest first.
func (f *Fake) List(ctx context.Context, labels container.Labels) ([]container.Summary, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return f.list(labels), nil
}

func (f *Fake) list(labels container.Labels) []container.Summary {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows []container.Summary
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		if c := f.containers[id]; carries(c.labels, labels) {
			rows = append(rows, c.summary())
		}
	}
	return rows
}

// Pause has a container be listed as paused until it is stopped. Its program goes on: a goroutine cannot be frozen.
func (f *Fake) Pause(ctx context.Context, id string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.containers[id]
	if !ok {
		return fmt.Errorf("pause %s: %w", id, container.ErrNotFound)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = !c.ended
	return nil
}

// Remove kills and removes a container.
func (f *Fake) Remove(ctx context.Context, id string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	var found *fakeContainer
	for _, c := range f.containers {
		if c.id == id || c.Name() == id {
			found = c
		}
	}
	f.mu.Unlock()
	if found != nil {
		found.kill(codeKilled, false)
		f.forget(found.id)
	}
	return nil
}

// Repeat returns a line that names the image and its command.
func (f *Fake) Repeat(spec container.Spec) string {
	return strings.Join(append([]string{"fake", "run", spec.Image}, spec.Command...), " ")
}

func (f *Fake) image(ref string) (Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if img, ok := find(f.local, ref); ok {
		return img, nil
	}
	for _, img := range f.local {
		if img.ID == ref {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("image %s: %w", ref, container.ErrNotFound)
}

// find returns an image by its name, or by that of its repository and its digest, as NAME@sha256:DIGITS.
func find(images map[string]Image, ref string) (Image, bool) {
	if img, ok := images[ref]; ok {
		return img, true
	}
	repository, digest, byDigest := strings.Cut(ref, "@")
	for name, img := range images {
		if byDigest && img.Digest == digest && strings.HasPrefix(name, repository+":") {
			return img, true
		}
	}
	return Image{}, false
}

func (f *Fake) forget(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, id)
}

// complete gives an image what every image has.
func complete(ref string, img Image) Image {
	if img.ID == "" {
		img.ID = "sha256:" + fakeHash(ref)
	}
	if !slices.Contains(img.Tags, ref) {
		img.Tags = append(slices.Clone(img.Tags), ref)
	}
	if img.Created.IsZero() {
		img.Created = time.Unix(0, 0).UTC()
	}
	return img
}

func carries(labels, want container.Labels) bool {
	for k, v := range want {
		got, ok := labels[k]
		if !ok || v != "" && v != got {
			return false
		}
	}
	return true
}

func put[M ~map[K]V, K comparable, V any](m M, key K, value V) M {
	if m == nil {
		m = M{}
	}
	m[key] = value
	return m
}
