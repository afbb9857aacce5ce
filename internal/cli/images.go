package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
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
	// registryWithin bounds all that a verdict asks of registries. Three requests and a token take a second over a slow line, and both
	// images are asked for at once.
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
	here  []string       // digests of the unpacked layers that the container engine has
	named bool           // by itself, and not by a release
	err   error
}

// registryLookup returns the look-up of one verdict, with the credentials of a pull. Podman and an engine on another host have others.
func registryLookup(runtime container.Runtime, info container.Info) registry.Lookup {
	return registry.New(registry.Options{
		Login: runtime.Login, Within: registryWithin, Elsewhere: info.Remote || info.Podman(),
	}).Lookup
}

// look finds both images of o; lookup is the registry's.
func look(ctx context.Context, runtime container.Runtime, memo steps.KV, lookup registry.Lookup, o steps.Options, arch string) looked {
	var l looked
	var both sync.WaitGroup
	both.Go(func() { l.exporter = see(ctx, runtime, memo, lookup, o.ExporterImage(), arch).as(o.ExporterRef) })
	both.Go(func() { l.server = see(ctx, runtime, memo, lookup, o.ServerImage(), arch).as(o.ServerRef) })
	both.Wait()
	return l
}

// see finds an image: in the container engine, in what the cache remembers of it, or in its registry. So what is here, or was here
// and left its results, costs no request.
func see(ctx context.Context, runtime container.Runtime, memo steps.KV, lookup registry.Lookup, ref, arch string) seen {
	here, err := runtime.Resolve(ctx, ref)
	if err == nil {
		image := registry.Image{Ref: ref, Digest: here.Digest, Arch: here.Arch, Env: here.Env}
		return seen{ref: ref, from: fromEngine, image: image, here: here.Layers}
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

// as notes by which reference the image was named; empty is that of a release, which other releases and registries may stand in for.
func (s seen) as(named string) seen {
	s.named = named != ""
	answer, ok := errors.AsType[*registry.Error](s.err)
	if !ok || s.named {
		return s
	}
	switch answer.Kind {
	case registry.NotFound:
		answer.Advice = "`--release` names another release, `--registry` another registry"
	case registry.NoAnswer, registry.Failing, registry.Unreadable:
		answer.Advice = "`--registry` names a mirror"
	default:
	}
	return s
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

// compressed is how many bytes would be pulled. A layer of both images is counted once, and one that is here not at all.
func (l looked) compressed() int64 {
	var sum int64
	here := slices.Concat(l.exporter.here, l.server.here)
	counted := map[string]bool{}
	for _, layer := range slices.Concat(l.exporter.image.Layers, l.server.image.Layers) {
		if !counted[layer.Digest] && !slices.Contains(here, layer.Unpacked) {
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
		fmt.Sprintf("%s to download, %g times that unpacked (assumed), and both while they are pulled", bytesize.Format(compressed), expansion)
}

// room compares what the images take with what is free where the container engine stores them. Too little for what is to be downloaded, and
// unpacked there, is a failure; too little for what that is assumed to take is a doubt. A store that cannot be seen from here, on another host or
// in a virtual machine, is not judged: the zero finding. Where the container engine does not tell which folder it is, its root folder is looked at,
// and nothing is sure.
func (l looked) room(info container.Info, diskFree func(path string) (uint64, error)) finding {
	dir, short, what := info.ImageDir, statusFail, "where the container engine stores images"
	if dir == "" {
		dir, short, what = info.RootDir, statusWarn, "the container engine's root folder, which need not be where it stores images"
	}
	if info.Remote || dir == "" {
		return finding{}
	}
	if _, err := os.Stat(dir); err != nil {
		return finding{}
	}
	free, err := diskFree(dir)
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s, %s, has %s free", dir, what, bytesize.Format(free))}
	download := l.compressed()
	need, assumed := l.unpacked()
	switch {
	case need == 0:
		return f
	case float64(free) < float64(download):
		f.Status = short
		f.Saw += fmt.Sprintf(", and the images have %s to download, which takes more once it is unpacked", bytesize.Format(download))
	default:
		f.Saw += fmt.Sprintf(", and the images may need %s (%s)", bytesize.Format(need), assumed)
		if float64(free) < float64(need) {
			f.Status = statusWarn
		}
	}
	if f.Status != statusOK {
		f.Remedy = whatCouldGo
		if info.ImageDir != "" { // the images of containerd's store are elsewhere, and stay there
			f.Remedy += "; or move the container engine's data-root to a larger disk"
		}
	}
	return f
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
	const oneRelease = "name images of one release with --exporter-image and --server-image"
	other, tag := "use --accel cpu", otherRelease(r, h)
	switch {
	case l.exporter.named || l.server.named: // whatever the release, those stay
		other = "name other images with --exporter-image and --server-image"
	case tag != "":
		other = "--release " + tag + " would fit"
	}
	switch kind {
	case release.DriverTooOld:
		return other + "; or update the NVIDIA driver"
	case release.TensorRTDiffers, release.DALINewer:
		if l.exporter.named || l.server.named {
			return oneRelease
		}
		return other + "; or " + oneRelease
	case release.TensorRTUnknown:
		return "name NVIDIA's plain -py3 image of a release, or one that is made from it; or use --accel cpu"
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
