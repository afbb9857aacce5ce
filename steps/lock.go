package steps

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// IDLock is the step that only a lock of local images has: it reads what they hold.
const IDLock pipeline.ID = "lock"

// lockOutput is the name of its output: the text of the lock.
const lockOutput = "lock"

// ImageFinder finds images of a container engine.
type ImageFinder interface {
	// Resolve describes a local image, or returns [container.ErrNotFound].
	Resolve(ctx context.Context, ref string) (container.Image, error)
}

// LockOf returns the lock of a run: what pins another one to what it used. Digests are those of the run's outputs by
// STEP/OUTPUT, as in a report; where one is missing it is what the image's step last found. A fact that nobody knows
// any more is left out, as the base image of a local image that was built long ago.
func LockOf(ctx context.Context, t target.Target, digests map[string]string, tools Tools) (lock.Lock, error) {
	l := t.LockFacts()
	carried, err := carriedFacts(t.Recipe)
	if err != nil {
		return l, err
	}
	l.Scripts, l.Labels = carried.Scripts, carried.Labels
	if t.Weights.Kind == target.File {
		sum, err := weightsSum(ctx, t.Weights.Path, tools.KV)
		if err != nil {
			return l, err
		}
		l.Weights.SHA256 = lock.Digest("sha256:" + sum)
	}
	if t.Source == target.Local {
		if l.Images[lock.Base], err = baseImage(ctx, t, tools.Images); err != nil {
			return l, err
		}
		l.Builds, err = localBuilds(ctx, tools.Images, tools.KV, t.BaseImage, t.Arch)
		return l, err
	}
	notes := imageNotes{tools.KV}
	for _, image := range []struct {
		role string
		step pipeline.ID
		info target.ImageInfo
	}{{lock.Exporter, IDExporterImage, t.Images.Exporter}, {lock.Server, IDServerImage, t.Images.Server}} {
		found := l.Images[image.role]
		last, _ := tools.KV.Recall(identityKey(image.info.Ref))
		id := cmp.Or(digests[string(image.step)+"/"+imageOutput], last)
		if notes.unpublished(id) {
			found.ID = lock.Digest(id)
		} else {
			found.Digest = lock.Digest(id)
		}
		if image.info.Found == target.InRegistry {
			found.Platforms = map[string]lock.Digest{lock.Platform(t.Arch): lock.Digest(image.info.Image.Digest)}
		}
		l.Images[image.role] = found
	}
	return l, nil
}

// baseImage is the base image of a target's local images.
func baseImage(ctx context.Context, t target.Target, images ImageFinder) (lock.Image, error) {
	if _, digest, pinned := strings.Cut(t.BaseImage, "@"); pinned {
		return lock.Image{Ref: cmp.Or(t.BaseName, t.BaseImage), Digest: lock.Digest(digest)}, nil
	}
	base := lock.Image{Ref: t.BaseImage}
	found, err := images.Resolve(ctx, t.BaseImage)
	if errors.Is(err, container.ErrNotFound) {
		return base, nil
	}
	// Podman gives a digest to what no registry has, as to the image that scripts/base-image.sh makes.
	if found.Digest == "" || t.BaseImage == target.MadeBaseImage {
		base.ID = lock.Digest(found.ID)
	} else {
		base.Digest = lock.Digest(found.Digest)
	}
	return base, err
}

// carriedFacts are the hashes of the embedded programs and of the labels of a model.
func carriedFacts(model recipe.Recipe) (lock.Lock, error) {
	const folder = "assets/python"
	files, err := fs.ReadDir(dalirun.Assets, folder)
	if err != nil {
		return lock.Lock{}, err
	}
	l := lock.Lock{Labels: lock.Digest(digest(model.LabelText)), Scripts: map[string]lock.Digest{}}
	for _, f := range files {
		text, err := dalirun.Assets.ReadFile(path.Join(folder, f.Name()))
		if err != nil {
			return lock.Lock{}, err
		}
		l.Scripts[f.Name()] = lock.Digest(digest(text))
	}
	return l, nil
}

// localBuilds are the builds of the local images on a base, with the packages of those that are here and were read.
func localBuilds(ctx context.Context, images ImageFinder, kv KV, base, arch string) (map[string]lock.Build, error) {
	builds := map[string]lock.Build{}
	for _, name := range []string{lock.Exporter, lock.Server} {
		b := newImageBuild(target.Target{BaseImage: base}, Tools{}, name)
		build := lock.Build{Hash: lock.Digest("sha256:" + b.hash())}
		image, err := images.Resolve(ctx, b.tag())
		if err != nil && !errors.Is(err, container.ErrNotFound) {
			return nil, err
		}
		if list, ok := (imageNotes{kv}).packageList(image); ok && err == nil {
			build.Packages = map[string]map[string]string{lock.Platform(arch): lock.Packages(list)}
		}
		builds[name] = build
	}
	return builds, nil
}

// lockedPackages are those that the lock has of a local image.
type lockedPackages struct {
	file           string // empty without a lock
	frozen         bool
	name, platform string // of the image
	packages       map[string]string
}

func newLockedPackages(t target.Target, name string) lockedPackages {
	locked := t.LockedBuilds
	return lockedPackages{locked.File, locked.Frozen, name, lock.Platform(t.Arch), locked.Packages[name]}
}

// check compares the packages of an image that was just looked at with the lock.
func (p lockedPackages) check(w *pipeline.Work, list string) error {
	if p.file == "" {
		return nil
	}
	of := func(packages map[string]string) lock.Lock {
		build := lock.Build{Packages: map[string]map[string]string{p.platform: packages}}
		return lock.Lock{Builds: map[string]lock.Build{p.name: build}}
	}
	differences := lock.Compare(of(p.packages), of(lock.Packages(list)))
	switch {
	case len(differences) == 0:
		return nil
	case p.frozen:
		return target.FrozenFault(p.file, differences)
	default:
		w.Emit(pipeline.Warning{Text: target.Differ(p.file, differences)})
		return nil
	}
}

// lockedImage is an image that is pulled by its digest, since a lock has it.
type lockedImage struct {
	tagged string // its name; empty without a lock
	file   string // the lock
	gone   func(ctx context.Context, ref string) ([]string, error)
}

// explain says which digest is gone where that is why a pull failed; any other error stays what it is.
func (i lockedImage) explain(ctx context.Context, ref string, err error) error {
	if i.tagged == "" || i.gone == nil || ctx.Err() != nil {
		return err
	}
	const limit = 20 * time.Second // a request for each layer
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts, lookErr := i.gone(limited, ref)
	if lookErr != nil || len(parts) == 0 { // it is another error, or nobody can tell
		return err
	}
	return target.GoneFault(ref, i.tagged, i.file, parts)
}

// ForLock returns the steps that make the lock of a target with local images: what these hold is known only once they
// are built. The last one's output is the text of the lock, see [LockText].
func ForLock(t target.Target, tools Tools) []pipeline.Step {
	exporter, server := newExporterImage(t, tools), newServerImage(t, tools)
	return []pipeline.Step{exporter, server, &lockImages{
		target: t, tools: tools, images: []pipeline.Output{output(exporter), output(server)},
	}}
}

// LockText is what the last step of [ForLock] made.
func LockText(made pipeline.Values) []byte { return []byte(made[lockOutput].Ref) }

// lockImages writes down what the local images hold.
type lockImages struct {
	target target.Target
	tools  Tools
	images []pipeline.Output
}

// ID returns lock.
func (s *lockImages) ID() pipeline.ID { return IDLock }

// Inputs are both images.
func (s *lockImages) Inputs() []pipeline.Output { return s.images }

// Outputs are the lock.
func (s *lockImages) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDLock, Name: lockOutput}}
}

// Run asks nobody but the container engine and the cache.
func (s *lockImages) Run(ctx context.Context, w *pipeline.Work) error {
	l, err := LockOf(ctx, s.target, nil, s.tools)
	if err != nil {
		return err
	}
	text := l.Text()
	w.Set(lockOutput, pipeline.Value{Ref: string(text), Digest: digest(text)})
	return nil
}
