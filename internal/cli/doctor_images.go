package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/steps"
)

const (
	// localNeed is the disk that the two local images and their build take (seen: 1.8 GB and 1.3 GB, and layers).
	localNeed = 6 * units.GiB
	// cacheNeed is the disk that the results of one run take: weights, ONNX, engine.
	cacheNeed = units.GiB

	whatCouldGo = "`docker system df` and `dalirun gc --dry-run` say what could go"
)

// images says where both images are, or what keeps them away, and whether they fit each other and this host.
func (d *diagnosis) images(ctx context.Context) finding {
	l, err := d.lane()
	info, infoErr := d.info()
	if err != nil || infoErr != nil {
		return finding{}
	}
	if l.Images == steps.Local {
		return d.base(ctx)
	}
	if _, err := d.choice(); err != nil {
		return finding{}
	}
	if _, err := d.store(); err != nil {
		return failed(err, "name another folder with --cache-dir")
	}
	found, err := d.found()
	if err != nil {
		return refusedImage(err)
	}
	both := []seen{found.images.exporter, found.images.server}
	var absent finding
	for _, s := range both {
		if s.err != nil && absent.Status != statusFail {
			absent = unseen(s)
		}
	}
	if absent.Status != "" {
		return absent
	}
	if err := found.images.fits(found.Release, l.host, info.Arch); err != nil {
		return failed(err, "")
	}
	said := make([]string, len(both))
	for i, s := range both {
		said[i] = s.ref + " (" + s.from + ")"
		if bytes := s.image.Compressed(); bytes > 0 {
			said[i] = fmt.Sprintf("%s (%s, %s)", s.ref, s.from, units.HumanSize(float64(bytes)))
		}
	}
	f := finding{Status: statusOK, Saw: strings.Join(said, ", ")}
	if doubts := found.images.conflicts(found.Release, l.host, info.Arch); l.Lane == steps.GPU && len(doubts) > 0 {
		f.Status = statusWarn
		f.Saw += ": " + doubts[0].Text
	}
	return f
}

// refusedImage is the finding of a look that came to no images at all.
func refusedImage(err error) finding {
	if told, ok := errors.AsType[*registry.Error](err); ok {
		return unseen(seen{ref: told.Ref, err: told})
	}
	return failed(err, "")
}

// unseen is the finding of an image that cannot be looked up. Where a pull could still work it is no failure, and says so.
func unseen(s seen) finding {
	told, ok := errors.AsType[*registry.Error](s.err)
	switch {
	case !ok:
		return failed(s.err, "")
	case told.Final():
		return finding{Status: statusFail, Saw: told.Error(), Remedy: told.Hint()}
	default:
		return finding{
			Status: statusWarn, Remedy: told.Hint(),
			Saw: told.Error() + "; the container engine has a network and a proxy of its own, and may still get it",
		}
	}
}

// base looks for the image that the local ones are built on. Those may be there already, so nothing here is a failure.
func (d *diagnosis) base(ctx context.Context) finding {
	runtime, err := d.runtime()
	if err != nil {
		return failed(err, "")
	}
	ref, err := pickBase(ctx, runtime, d.wishes.baseImage)
	if err != nil {
		return failed(err, "")
	}
	info, err := d.info()
	if err != nil {
		return finding{}
	}
	memo, err := d.store()
	if err != nil {
		return failed(err, "name another folder with --cache-dir")
	}
	s := see(ctx, runtime, memo, registry.New(registryWithin).Lookup, ref, info.Arch)
	if s.err != nil {
		f := unseen(s)
		f.Status = statusWarn
		f.Saw += ": the local images are built on it, unless they are here"
		return f
	}
	return finding{Status: statusOK, Saw: fmt.Sprintf("the local images are built on %s (%s)", ref, s.from)}
}

// imageDisk compares what the images would take with what is free where the container engine stores them. A store on another host or
// in a virtual machine cannot be seen from here.
func (d *diagnosis) imageDisk(context.Context) finding {
	l, err := d.lane()
	info, infoErr := d.info()
	if err != nil || infoErr != nil || info.RootDir == "" || info.Remote {
		return finding{}
	}
	if _, err := os.Stat(info.RootDir); err != nil {
		return finding{}
	}
	if l.Images == steps.Local {
		return d.room(info.RootDir, localNeed, statusWarn, "the local images and their build may need", "")
	}
	if _, err := d.choice(); err != nil {
		return finding{}
	}
	found, err := d.found()
	if err != nil {
		return finding{}
	}
	need, assumed := found.images.unpacked()
	return d.room(info.RootDir, need, statusFail, "the images need", assumed)
}

// cacheDisk compares what the steps of one run make with what is free in the cache.
func (d *diagnosis) cacheDisk(context.Context) finding {
	return d.room(d.wishes.cache, cacheNeed, statusWarn, "the results of a run may need", "")
}

// room says whether need bytes are free under path; otherwise is the status if they are not. A need of zero is none.
func (d *diagnosis) room(path string, need int64, otherwise status, what, assumed string) finding {
	free, err := d.diskFree(path)
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s: %s are free", path, units.HumanSize(float64(free)))}
	if need == 0 {
		return f
	}
	f.Saw += fmt.Sprintf(", and %s %s", what, units.HumanSize(float64(need)))
	if assumed != "" {
		f.Saw += " (" + assumed + ")"
	}
	if float64(free) < float64(need) {
		f.Status, f.Remedy = otherwise, whatCouldGo
	}
	return f
}
