package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/steps"
)

const (
	// localNeed is room for the two local images, with as much again and more for the layers and the downloads of their builds.
	localNeed = 6 * units.GiB

	whatCouldGo = "`docker system df` and `dalirun gc --dry-run` say what could go"
)

// images says where both images are, or what keeps them away, and whether they fit each other and this host.
func (d *diagnosis) images(ctx context.Context) finding {
	l, err := d.lane()
	info, infoErr := d.info()
	if err != nil || infoErr != nil || d.refusal(checkImages) != nil {
		return finding{}
	}
	if _, err := d.choice(); err != nil {
		return finding{}
	}
	if _, err := d.store(); err != nil {
		return finding{} // the cache's own check says it
	}
	found, err := d.found()
	if err != nil {
		return failed(err, "")
	}
	if l.Images == steps.Local {
		return d.base(ctx, found.BaseImage)
	}
	both := []seen{found.looked.exporter, found.looked.server}
	for _, s := range both {
		if s.err != nil {
			return unseen(s)
		}
	}
	said := make([]string, len(both))
	for i, s := range both {
		said[i] = s.ref + " (" + s.from + ")"
		if bytes := s.image.Compressed(); bytes > 0 {
			said[i] = fmt.Sprintf("%s (%s, %s)", s.ref, s.from, bytesize.Format(bytes))
		}
	}
	f := finding{Status: statusOK, Saw: strings.Join(said, ", ")}
	if doubts := found.looked.conflicts(found.Release, l.host, info.Arch); l.Lane == steps.GPU && len(doubts) > 0 {
		f.Status = statusWarn
		f.Saw += ": " + doubts[0].Text
	}
	return f
}

// unseen is the finding of an image that could not be looked at, which a pull may still get.
func unseen(s seen) finding {
	return finding{
		Status: statusWarn, Remedy: hintOf(s.fault(), ""),
		Saw: s.err.Error() + "; the container engine has a network and a proxy of its own, and may still get it",
	}
}

// base looks for the image that the local ones are built on. Those may be there already, so nothing here is a failure.
func (d *diagnosis) base(ctx context.Context, ref string) finding {
	runtime, err := d.runtime()
	info, infoErr := d.info()
	memo, memoErr := d.store()
	if err := errors.Join(err, infoErr, memoErr); err != nil {
		return failed(err, "")
	}
	s := see(ctx, runtime, memo, registryLookup(runtime, info), ref, info.Arch)
	if s.err != nil {
		return finding{Status: statusWarn, Remedy: hintOf(s.fault(), ""), Saw: s.err.Error() + ": the local images are built on it, unless they are here"}
	}
	return finding{Status: statusOK, Saw: fmt.Sprintf("the local images are built on %s (%s)", ref, s.from)}
}

// imageDisk compares what the images would take with what is free where the container engine stores them. A store on another host or
// in a virtual machine cannot be seen from here.
func (d *diagnosis) imageDisk(context.Context) finding {
	l, err := d.lane()
	info, infoErr := d.info()
	if err != nil || infoErr != nil {
		return finding{}
	}
	if l.Images == steps.Local {
		dir := cmp.Or(info.ImageDir, info.RootDir)
		if _, err := os.Stat(dir); err != nil || info.Remote {
			return finding{}
		}
		return d.localRoom(dir)
	}
	found, err := d.found()
	if err != nil {
		return finding{}
	}
	return found.looked.room(info, d.diskFree)
}
