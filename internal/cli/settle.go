package cli

import (
	"context"
	"slices"

	"github.com/distribution/reference"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/steps"
)

// checkReferences refuses names that no registry could have.
func (w *wishes) checkReferences() error {
	if _, err := reference.ParseNormalizedNamed(w.registry + "/nvidia/tritonserver:25.03-py3"); err != nil || w.registry == "" {
		return usagef("as in --registry nvcr.io or --registry registry.example:5000/mirror", "--registry: %q is not of the form HOST or HOST/PREFIX", w.registry)
	}
	for _, r := range []struct{ flag, ref string }{
		{"--exporter-image", w.exporterImage}, {"--server-image", w.serverImage}, {"--base-image", w.baseImage},
	} {
		if r.ref == "" {
			continue
		}
		if _, err := reference.ParseAnyReference(r.ref); err != nil {
			return usagef("as in registry.example/team/image:tag", "%s: %q is no image reference: %w", r.flag, r.ref, err)
		}
	}
	if w.namesImages() && w.images.value == string(steps.Local) {
		return usagef("use --images ngc", "--exporter-image and --server-image replace NVIDIA's images, and --images local builds its own")
	}
	return nil
}

func (w *wishes) namesImages() bool { return w.exporterImage != "" || w.serverImage != "" }

// settleNGC finds out what both images hold, before anything is pulled, and refuses a run that they cannot make. The release is that which was
// asked for, that of a server image that was named, or the newest that this host can run.
func settleNGC(ctx context.Context, w *wishes, runtime container.Runtime, memo steps.Memo, info container.Info, h release.Host, r *resolved) error {
	before := slices.Clone(r.Doubts)
	l, err := lookNGC(ctx, w, runtime, memo, registry.New(registryWithin).Lookup, info.Arch, h, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	r.looked = l
	doubts, refused := l.unseen()
	if refused != nil {
		return refused
	}
	r.Release = r.Release.WithEnv(l.server.image.Env)
	if err := l.fits(r.Release, h, info.Arch); err != nil {
		return err
	}
	if r.Lane == steps.GPU { // what the table alone doubted may be settled
		r.Doubts = before
		for _, reason := range l.conflicts(r.Release, h, info.Arch) {
			r.Doubts = append(r.Doubts, l.named(r.Release)+": "+reason.Text)
		}
	}
	r.Doubts = append(r.Doubts, doubts...)
	return l.room(info)
}

// lookNGC looks at the images of the release that is to be taken, and sets the release.
func lookNGC(
	ctx context.Context, w *wishes, runtime container.Runtime, memo steps.Memo, lookup registry.Lookup, arch string, h release.Host, r *resolved,
) (looked, error) {
	if r.ServerRef == "" || w.release != "" {
		if err := pickRelease(w.release, h, r); err != nil {
			return looked{}, err
		}
		return look(ctx, runtime, memo, lookup, r.Options, arch), nil
	}
	if r.ExporterRef != "" {
		l := look(ctx, runtime, memo, lookup, r.Options, arch)
		r.Release = release.FromEnv(l.server.image.Env)
		return l, nil
	}
	l := looked{server: see(ctx, runtime, memo, lookup, r.ServerRef, arch)}
	if l.server.err != nil {
		return l, l.server.fault() // without it nothing says which image exports
	}
	r.Release = release.FromEnv(l.server.image.Env)
	if r.Release.Tag == "" {
		return l, usagef("name the image with PyTorch with --exporter-image, or a release with --release",
			"--server-image: %s does not say of which release it is (NVIDIA_TRITON_SERVER_VERSION)", r.ServerRef)
	}
	l.exporter = see(ctx, runtime, memo, lookup, r.ExporterImage(), arch)
	return l, nil
}
