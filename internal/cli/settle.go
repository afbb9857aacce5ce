package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/distribution/reference"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// checkReferences refuses names that no registry could have.
func (w *wishes) checkReferences() error {
	if _, err := reference.ParseNormalizedNamed(w.registry + "/nvidia/tritonserver:25.03-py3"); err != nil || w.registry == "" {
		return usagef("as in --registry nvcr.io or --registry registry.example:5000/mirror", "%s: %q is not of the form HOST or HOST/PREFIX", w.origin("registry"), w.registry)
	}
	// Without a dot, a port or localhost it would be a name on Docker Hub.
	if host, _, _ := strings.Cut(w.registry, "/"); host != "localhost" && !strings.ContainsAny(host, ".:") {
		return usagef("as in --registry registry.example/mirror", "%s: %q begins with no host", w.origin("registry"), w.registry)
	}
	for _, r := range []struct{ flag, ref string }{
		{"exporter-image", w.exporterImage}, {"server-image", w.serverImage}, {"base-image", w.baseImage},
	} {
		if r.ref == "" {
			continue
		}
		if _, err := reference.ParseAnyReference(r.ref); err != nil {
			return usagef("as in registry.example/team/image:tag", "%s: %q is no image reference: %w", w.origin(r.flag), r.ref, err)
		}
	}
	for _, r := range []struct{ flag, ref string }{{"exporter-image", w.exporterImage}, {"server-image", w.serverImage}} {
		if r.ref == "" {
			continue
		}
		if err := registry.CheckReference(r.ref); err != nil {
			return usagef("as in registry.example/team/image:tag", "%s: %q is no image of a registry: %w", w.origin(r.flag), r.ref, err)
		}
	}
	return nil
}

// settleNGC finds out what both images hold, before anything is pulled, and refuses a run that they cannot make. The release is that which was
// asked for, that of a server image that was named, or the newest that this host can run.
func settleNGC(ctx context.Context, w *wishes, runtime container.Runtime, memo steps.KV, info container.Info, h release.Host, r *resolved) error {
	l, err := lookNGC(ctx, w, runtime, memo, registryLookup(runtime, info), info.Arch, h, r)
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
	if r.Lane == steps.GPU {
		for _, reason := range l.conflicts(r.Release, h, info.Arch) {
			r.Doubts = append(r.Doubts, l.named(r.Release)+": "+reason.Text)
		}
	}
	r.Doubts = append(r.Doubts, doubts...)
	return nil
}

// checkRoom refuses images that there is no room for.
func (r *resolved) checkRoom(info container.Info) error {
	switch f := r.looked.room(info, host.DiskFree); f.Status {
	case statusFail:
		return pipeline.Faultf(pipeline.Environment, f.Remedy, "%s", f.Saw)
	case statusWarn:
		r.Doubts = append(r.Doubts, f.Saw)
	case statusOK:
	}
	return nil
}

// lookNGC looks at the images of the release that is to be taken, and sets the release.
func lookNGC(
	ctx context.Context, w *wishes, runtime container.Runtime, memo steps.KV, lookup registry.Lookup, arch string, h release.Host, r *resolved,
) (looked, error) {
	if r.ServerRef == "" {
		picked, _, err := pickRelease(w.release, r.Lane, h) // what the table alone doubts the images may settle
		if err != nil {
			return looked{}, err
		}
		r.Release = picked
		return look(ctx, runtime, memo, lookup, r.Options, arch), nil
	}
	if w.release != "" {
		asked, err := release.Find(w.release)
		if err != nil {
			return looked{}, usagef("", "%s: %w", w.origin("release"), err)
		}
		r.Release = asked
		l := look(ctx, runtime, memo, lookup, r.Options, arch)
		return l, l.contradicts(asked, w.written("release", asked.Tag))
	}
	if r.ExporterRef != "" {
		l := look(ctx, runtime, memo, lookup, r.Options, arch)
		r.Release = release.FromEnv(l.server.image.Env)
		return l, nil
	}
	const say = "name the image with PyTorch with --exporter-image, or a release with --release"
	l := looked{server: see(ctx, runtime, memo, lookup, r.ServerRef, arch).as(r.ServerRef)}
	if l.server.err != nil { // without it nothing says which image exports
		if answer, ok := errors.AsType[*registry.Error](l.server.err); ok && !answer.Final() {
			answer.Advice = "or " + say + ", which only the server image says"
		}
		return l, l.server.fault()
	}
	r.Release = release.FromEnv(l.server.image.Env)
	if r.Release.Tag == "" {
		return l, usagef(say, "%s: %s does not say of which release it is (NVIDIA_TRITON_SERVER_VERSION)", w.origin("server-image"), r.ServerRef)
	}
	l.exporter = see(ctx, runtime, memo, lookup, r.ExporterImage(), arch).as("")
	return l, nil
}

// contradicts refuses a release that is not the one that the server image says: its figures would be another image's.
func (l looked) contradicts(asked release.Release, written string) error {
	said := release.FromEnv(l.server.image.Env).Tag
	if said == "" || said == asked.Tag {
		return nil
	}
	return usagef("drop --release, or name an image of release "+asked.Tag,
		"%s: the server image %s says that it is of release %s (NVIDIA_TRITON_SERVER_VERSION)", written, l.server.ref, said)
}
