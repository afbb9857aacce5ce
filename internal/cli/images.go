package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// Where an image was seen.
const (
	fromEngine   = "container engine"
	fromCache    = "cache"
	fromRegistry = "registry"
)

const (
	// registryWithin bounds what a run asks of a registry. Three requests and a token take a second over a slow line.
	registryWithin = 3 * time.Second
	// expansion is how much larger an image is once its layers are unpacked. Assumed, the middle of 2 to 2.5, from what users write of NGC images:
	// those that are listed with 9 to 11 GB compressed take 20 to 25 GB in `docker images`. None was measured here.
	expansion = 2.25
)

// looked is what could be learned of the two images of an NGC run without pulling anything.
type looked struct{ exporter, server seen }

// seen is what could be learned of one image.
type seen struct {
	ref   string
	from  string         // "container engine", "cache" or "registry"; empty if err
	image registry.Image // zero if err; without layers unless it is from the registry
	err   error
}

// look finds both images of o; lookup is the registry's.
func look(ctx context.Context, runtime container.Runtime, memo steps.Memo, lookup registry.Lookup, o steps.Options, arch string) looked {
	var l looked
	var both sync.WaitGroup
	both.Go(func() { l.exporter = see(ctx, runtime, memo, lookup, o.ExporterImage(), arch) })
	both.Go(func() { l.server = see(ctx, runtime, memo, lookup, o.ServerImage(), arch) })
	both.Wait()
	return l
}

// see finds an image: in the container engine, in what the cache remembers of it, or in its registry. So what is here, or was here
// and left its results, costs no request.
func see(ctx context.Context, runtime container.Runtime, memo steps.Memo, lookup registry.Lookup, ref, arch string) seen {
	here, err := runtime.Image(ctx, ref)
	if err == nil {
		return seen{ref: ref, from: fromEngine, image: registry.Image{Ref: ref, Digest: here.Digest, Arch: here.Arch, Env: here.Env}}
	}
	if !errors.Is(err, container.ErrNotFound) {
		return seen{ref: ref, err: err}
	}
	if id, env, ok := steps.RecallImage(memo, ref); ok {
		return seen{ref: ref, from: fromCache, image: registry.Image{Ref: ref, Digest: id, Arch: arch, Env: env}}
	}
	image, err := lookup(ctx, ref, arch)
	if err != nil {
		return seen{ref: ref, err: err}
	}
	return seen{ref: ref, from: fromRegistry, image: image}
}

// fault is why the image could not be looked at, with what to do about it; nil if it could.
func (s seen) fault() error {
	if answer, ok := errors.AsType[*registry.Error](s.err); ok {
		return &pipeline.Fault{Kind: pipeline.Environment, Err: s.err, Hint: answer.Hint()}
	}
	return s.err
}

// unseen are the images that could not be looked at: doubts are what a pull may not meet, refused is what it will.
func (l looked) unseen() (doubts []string, refused error) {
	for _, s := range []seen{l.exporter, l.server} {
		answer, ok := errors.AsType[*registry.Error](s.err)
		switch {
		case s.err == nil:
		case ok && !answer.Final():
			if doubt := s.err.Error() + ", so the image is not checked before it is pulled"; !slices.Contains(doubts, doubt) {
				doubts = append(doubts, doubt)
			}
		case refused == nil:
			refused = s.fault()
		}
	}
	return doubts, refused
}

// compressed is how many bytes would be pulled. A layer of both images is counted once.
func (l looked) compressed() int64 {
	var sum int64
	counted := map[string]bool{}
	for _, layer := range slices.Concat(l.exporter.image.Layers, l.server.image.Layers) {
		if !counted[layer.Digest] {
			counted[layer.Digest] = true
			sum += layer.Size
		}
	}
	return sum
}

// unpacked is how many bytes the missing images would take where the container engine stores images, and what that assumes; 0
// if both are here.
func (l looked) unpacked() (bytes int64, assumed string) {
	compressed := l.compressed()
	if compressed == 0 {
		return 0, ""
	}
	return int64(float64(compressed) * (1 + expansion)),
		fmt.Sprintf("%s to download, %g times that unpacked (assumed), and both while they are pulled", units.HumanSize(float64(compressed)), expansion)
}

// room refuses images that there is no room for where the container engine stores them. A store that cannot be seen from here, on
// another host or in a virtual machine, is not judged.
func (l looked) room(info container.Info) error {
	need, assumed := l.unpacked()
	if need == 0 || info.Remote || info.RootDir == "" {
		return nil
	}
	if _, err := os.Stat(info.RootDir); err != nil {
		return nil //nolint:nilerr // see above
	}
	free, err := host.DiskFree(info.RootDir)
	if err != nil || float64(free) >= float64(need) {
		return nil //nolint:nilerr // the pull will say
	}
	return pipeline.Faultf(pipeline.Environment, "`docker system df` says what could go; or move the container engine's data-root to a larger disk",
		"%s, where the container engine stores images, has %s free, and the images need %s (%s)",
		info.RootDir, units.HumanSize(float64(free)), units.HumanSize(float64(need)), assumed)
}

// conflicts are what the images, the release and the host have against each other.
func (l looked) conflicts(r release.Release, h release.Host, arch string) []release.Reason {
	is := func(s seen) release.Image { return release.Image{Arch: s.image.Arch, Env: s.image.Env} }
	return r.Conflicts(is(l.exporter), is(l.server), h, arch)
}

// fits says whether the images fit each other, the release and the host: nil, or a *pipeline.Fault of kind Environment with a
// hint.
func (l looked) fits(r release.Release, h release.Host, arch string) error {
	for _, reason := range l.conflicts(r, h, arch) {
		if !reason.Kind.IsDoubt() {
			return pipeline.Faultf(pipeline.Environment, l.remedy(reason.Kind, r, h, arch), "%s: %s", l.named(r), reason.Text)
		}
	}
	return nil
}

// named is what r is called: images without a release are called by what serves.
func (l looked) named(r release.Release) string {
	if r.Tag == "" {
		return l.server.ref
	}
	return "release " + r.Tag
}

func (l looked) remedy(kind release.Kind, r release.Release, h release.Host, arch string) string {
	other := "use --accel cpu"
	if tag := otherRelease(r, h); tag != "" {
		other = "--release " + tag + " would fit"
	}
	switch kind {
	case release.DriverTooOld:
		return other + "; or update the NVIDIA driver"
	case release.TensorRTDiffers, release.DALINewer:
		return other + "; or name images of one release with --exporter-image and --server-image"
	case release.TensorRTUnknown:
		return "name NVIDIA's plain -py3 image of a release, or one that is made from it; " + other
	case release.OtherArch:
		return "name images for " + arch + " with --exporter-image and --server-image"
	default:
		return other
	}
}

// otherRelease is the newest release but r that fits the host; empty if none does.
func otherRelease(r release.Release, h release.Host) string {
	newest, _ := release.Newest(h)
	if newest.Tag != r.Tag {
		return newest.Tag
	}
	for _, o := range slices.Backward(release.All()) {
		if o.Tag < r.Tag && !slices.ContainsFunc(o.Check(h), func(reason release.Reason) bool { return reason.Kind != release.OlderBranch }) {
			return o.Tag
		}
	}
	return ""
}
