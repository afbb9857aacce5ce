package target

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// inspected is what is known of an image before a pull, or the error that kept it from being inspected.
type inspected struct {
	ImageInfo

	err error
}

// inspectedPair are both images of an NGC run.
type inspectedPair struct{ exporter, server inspected }

// decideRelease takes the requested release, if this host can run it, or the newest that it can. The release of a
// server image that the user named is in its environment, and one that nobody named may be in the lock.
func (x *resolution) decideRelease(context.Context) {
	t := &x.target
	if t.Source != NGC || x.request.ServerImage != "" {
		return
	}
	picked, err := pickRelease(cmp.Or(x.request.Release, x.lockedRelease()), t.Lane, t.Fits)
	x.refuse(CheckRelease, err)
	t.Release = picked
}

// pickRelease takes a release without inspecting its images. It ignores doubts, which the images may resolve. tag may
// be empty.
func pickRelease(tag string, lane Lane, h release.Host) (release.Release, error) {
	if tag == "" {
		newest, reasons := release.Newest(h)
		if newest.Tag == "" {
			return newest, pipeline.Faultf(pipeline.Environment, "update the NVIDIA driver, or "+remedy.UseCPU,
				"no release runs on this host: %s", reasons[len(reasons)-1].Text)
		}
		return newest, nil
	}
	picked, err := release.Find(tag)
	if err != nil {
		return picked, pipeline.Usagef("", "--release: %w", err)
	}
	if lane == CPU {
		return picked, nil // the cpu lane needs neither TensorRT nor a driver
	}
	for _, reason := range picked.Check(h) {
		if reason.Kind.IsDoubt() {
			continue
		}
		hint := remedy.UseCPU
		if newest, _ := release.Newest(h); newest.Tag != "" {
			hint = "--release " + newest.Tag + " runs here"
		}
		if reason.Kind == release.DriverTooOld {
			hint += "; or update the NVIDIA driver"
		}
		return picked, pipeline.Faultf(pipeline.Environment, hint, "release %s: %s", picked.Tag, reason.Text)
	}
	return picked, nil
}

// decideImages inspects both of NVIDIA's images before they are pulled, and refuses a run that cannot work with them.
func (x *resolution) decideImages(ctx context.Context) {
	t := &x.target
	if t.Source != NGC || x.engineErr != nil || x.refused(CheckRelease) || x.refused(CheckImages) {
		return
	}
	if err := x.inspectPair(ctx); err != nil {
		x.refuse(CheckImages, err)
	}
	t.Images = ImagePair{x.pair.exporter.ImageInfo, x.pair.server.ImageInfo}
	if x.refused(CheckImages) || ctx.Err() != nil {
		return
	}
	doubts, refused := x.pair.unknown()
	if refused != nil {
		x.refuse(CheckImages, refused)
		return
	}
	t.Release = t.Release.WithEnv(x.pair.server.Image.Env)
	if err := x.pair.fits(t.Release, t.Fits, x.info.Arch); err != nil {
		x.refuse(CheckImages, err)
		return
	}
	if t.Lane == GPU {
		for _, reason := range x.pair.conflicts(t.Release, t.Fits, x.info.Arch) {
			x.doubt(CheckImages, x.pair.name(t.Release)+": "+reason.Text,
				"take another --release YY.MM, or other images, if the run fails")
		}
	}
	for _, d := range doubts {
		x.doubt(CheckImages, d.text, d.remedy)
	}
}

// inspectPair inspects the images that the user named, and those of the run's release in place of the others. Without
// a requested release, a named server image decides it.
func (x *resolution) inspectPair(ctx context.Context) error {
	t, s := &x.target, x.request.Settings
	switch {
	case x.request.ServerImage == "":
		x.inspectBoth(ctx)
		return nil
	case x.request.Release != "":
		requested, err := release.Find(x.request.Release)
		if err != nil {
			return pipeline.Usagef("", "%s: %w", s.Origin("release"), err)
		}
		t.Release = requested
		x.inspectBoth(ctx)
		return x.pair.contradicts(requested, s.Written("release", requested.Tag))
	case x.request.ExporterImage != "":
		x.inspectBoth(ctx)
		t.Release = release.FromEnv(x.pair.server.Image.Env)
		return nil
	}
	const advice = "name the image with PyTorch with --exporter-image, or a release with --release"
	x.pair.server = x.inspect(ctx, lock.Server, x.request.ServerImage, true)
	if err := x.pair.server.err; err != nil { // only the server image says which image exports
		if answer, ok := errors.AsType[*registry.Error](err); ok && !answer.Final() {
			x.pair.server.err = answer.Advised("or " + advice + ", which only the server image says")
		}
		return x.pair.server.fault()
	}
	t.Release = release.FromEnv(x.pair.server.Image.Env)
	if t.Release.Tag == "" {
		return pipeline.Usagef(advice, "%s: %s does not say of which release it is (NVIDIA_TRITON_SERVER_VERSION)",
			s.Origin("server-image"), x.request.ServerImage)
	}
	x.pair.exporter = x.inspect(ctx, lock.Exporter, t.Release.ExporterRef(x.request.Registry), false)
	return nil
}

// inspectBoth inspects both images at the same time.
func (x *resolution) inspectBoth(ctx context.Context) {
	ref := func(named string, releaseRef func(string) string) (string, bool) {
		if named != "" {
			return named, true
		}
		return releaseRef(x.request.Registry), false
	}
	var both sync.WaitGroup
	both.Go(func() {
		image, named := ref(x.request.ExporterImage, x.target.Release.ExporterRef)
		x.pair.exporter = x.inspect(ctx, lock.Exporter, image, named)
	})
	both.Go(func() {
		image, named := ref(x.request.ServerImage, x.target.Release.ServerRef)
		x.pair.server = x.inspect(ctx, lock.Server, image, named)
	})
	both.Wait()
}

// inspect finds an image: in the container engine, in what the cache remembers of it, or in its registry. So an image
// that is here, or was here and left its results, costs no request to a registry. named says that the user named the
// image. One that is not named is a release's, which another release or registry may replace. What the lock has of the
// role is found by its digest: whatever the tag is now, the run does not see it.
func (x *resolution) inspect(ctx context.Context, role, ref string, named bool) inspected {
	i := inspected{ImageInfo: ImageInfo{Ref: ref, Named: named}}
	if byDigest, ok := x.pinned(role, ref, named); ok {
		i.Ref, i.Tagged, i.LockFile = byDigest, ref, x.request.Lock.File
		ref = byDigest
	}
	local, err := x.probes.Runtime.Resolve(ctx, ref)
	switch {
	case err == nil:
		i.Found, i.LocalLayers = InEngine, local.Layers
		i.Image = registry.Image{Ref: ref, Digest: local.Digest, Arch: local.Arch, Env: local.Env}
		return i
	case !errors.Is(err, container.ErrNotFound):
		i.err, i.Unknown = err, err.Error()
		return i
	}
	if id, env, ok := x.probes.Cache.RememberedImage(ref); ok {
		i.Found, i.Image = InCache, registry.Image{Ref: ref, Digest: id, Arch: x.info.Arch, Env: env}
		return i
	}
	if i.Image, err = x.probes.Registry.Lookup(ctx, ref, x.info.Arch); err == nil {
		i.Found = InRegistry
		return i
	}
	if answer, ok := errors.AsType[*registry.Error](err); ok {
		switch {
		case i.Tagged != "" && answer.Missing != "":
			err = GoneFault(i.Ref, i.Tagged, i.LockFile, []string{answer.Missing})
		case !named:
			err = answer.Advised(otherPlace(answer.Kind))
		}
	}
	i.err, i.Unknown = err, err.Error()
	return i
}

// otherPlace says which flags name another place for an image of a release.
func otherPlace(kind registry.Kind) string {
	switch kind {
	case registry.NotFound:
		return "`--release` names another release, `--registry` another registry"
	case registry.NoAnswer, registry.Failing, registry.Unreadable:
		return "`--registry` names a mirror"
	default:
		return ""
	}
}

// fault is why the image could not be inspected, with what to do about it; nil if it could.
func (i inspected) fault() error {
	if answer, ok := errors.AsType[*registry.Error](i.err); ok {
		return &pipeline.Fault{Kind: pipeline.Environment, Err: i.err, Hint: answer.Hint()}
	}
	return i.err
}

// imageDoubt is why an image that a pull may still get was not inspected.
type imageDoubt struct{ text, remedy string }

// unknown returns why images could not be inspected: doubts for what a pull may not meet, refused for what it will.
func (p inspectedPair) unknown() (doubts []imageDoubt, refused error) {
	for _, i := range []inspected{p.exporter, p.server} {
		answer, ok := errors.AsType[*registry.Error](i.err)
		switch {
		case i.err == nil:
		case ok && !answer.Final():
			d := imageDoubt{i.err.Error() + ", so the image is not checked before it is pulled", answer.Hint()}
			if !slices.Contains(doubts, d) {
				doubts = append(doubts, d)
			}
		case refused == nil:
			refused = i.fault()
		}
	}
	return doubts, refused
}

// contradicts refuses a requested release that is not the server image's, whose figures are other ones. written is the
// flag as the user wrote it.
func (p inspectedPair) contradicts(requested release.Release, written string) error {
	tag := release.FromEnv(p.server.Image.Env).Tag
	if tag == "" || tag == requested.Tag {
		return nil
	}
	return pipeline.Usagef("drop --release, or name an image of release "+requested.Tag,
		"%s: the server image %s says that it is of release %s (NVIDIA_TRITON_SERVER_VERSION)", written, p.server.Ref,
		tag)
}

// conflicts returns the reasons why the images, the release and the host do not fit each other, or may not.
func (p inspectedPair) conflicts(r release.Release, h release.Host, arch string) []release.Reason {
	facts := func(i inspected) release.Image { return release.Image{Arch: i.Image.Arch, Env: i.Image.Env} }
	return r.Conflicts(facts(p.exporter), facts(p.server), h, arch)
}

// fits returns nil if images, release and host fit each other, else a fault of the environment.
func (p inspectedPair) fits(r release.Release, h release.Host, arch string) error {
	for _, reason := range p.conflicts(r, h, arch) {
		if !reason.Kind.IsDoubt() {
			return pipeline.Faultf(pipeline.Environment, p.remedy(reason.Kind, r, h, arch), "%s: %s", p.name(r),
				reason.Text)
		}
	}
	return nil
}

// name returns the name of r or, of images without a release, the server image's.
func (p inspectedPair) name(r release.Release) string {
	if r.Tag == "" {
		return p.server.Ref
	}
	return "release " + r.Tag
}

func (p inspectedPair) remedy(kind release.Kind, r release.Release, h release.Host, arch string) string {
	const oneRelease = "name images of one release with --exporter-image and --server-image"
	alternative, tag := remedy.UseCPU, otherRelease(r, h)
	switch {
	case p.exporter.Named || p.server.Named: // another release would not replace named images
		alternative = "name other images with --exporter-image and --server-image"
	case tag != "":
		alternative = "--release " + tag + " would fit"
	}
	switch kind {
	case release.DriverTooOld:
		return alternative + "; or update the NVIDIA driver"
	case release.TensorRTDiffers, release.DALINewer:
		if p.exporter.Named || p.server.Named {
			return oneRelease
		}
		return alternative + "; or " + oneRelease
	case release.TensorRTUnknown:
		return "name NVIDIA's plain -py3 image of a release, or one that is made from it; or " + remedy.UseCPU
	case release.OtherArch:
		return "name images for " + arch + " with --exporter-image and --server-image"
	default:
		return alternative
	}
}

// otherRelease returns the newest release but r that fits the host; empty if none does.
func otherRelease(r release.Release, h release.Host) string {
	newest, _ := release.Newest(h)
	if newest.Tag != r.Tag {
		return newest.Tag
	}
	for _, o := range slices.Backward(release.All()) {
		matters := func(reason release.Reason) bool { return reason.Kind != release.OlderBranch }
		if o.Tag < r.Tag && !slices.ContainsFunc(o.Check(h), matters) {
			return o.Tag
		}
	}
	return ""
}

const (
	// UsualBaseImage is the image that the local images are built on by default.
	UsualBaseImage = "debian:bookworm-slim"
	// MadeBaseImage is taken for the base image if it is here and UsualBaseImage is not. scripts/base-image.sh makes
	// it.
	MadeBaseImage = "dalirun/debian-base:bookworm"
)

// decideBaseImage takes the requested base image, else that of the lock, else the usual one, unless only the one made
// from packages is here. Only an exhaustive request looks whether it can be pulled: the local images may be here
// already, and their build finds it out.
func (x *resolution) decideBaseImage(ctx context.Context) {
	t := &x.target
	if t.Source != Local || x.engineErr != nil || x.refused(CheckImages) {
		return
	}
	t.BuildNetwork = x.request.BuildNetwork
	t.BaseImage = cmp.Or(x.request.BaseImage, x.locked().Images[lock.Base].Ref)
	if t.BaseImage == "" {
		t.BaseImage = UsualBaseImage
		for _, ref := range []string{UsualBaseImage, MadeBaseImage} {
			_, err := x.probes.Runtime.Resolve(ctx, ref)
			if err == nil {
				t.BaseImage = ref
				break
			}
			if !errors.Is(err, container.ErrNotFound) {
				x.refuse(CheckImages, err)
				return
			}
		}
	}
	name := t.BaseImage
	if byDigest, ok := x.pinned(lock.Base, name, true); ok {
		t.BaseImage, t.BaseName = byDigest, name
	}
	if !x.request.Exhaustive {
		return
	}
	base := x.inspect(ctx, lock.Base, name, true)
	t.BaseFound = base.Found
	if base.err != nil {
		x.doubt(CheckImages, base.Unknown+": the local images are built on it, unless they are here",
			pipeline.HintOf(base.fault()))
	}
}
