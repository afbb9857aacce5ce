package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// What the local images take, by the sizes that the container engine gave of those made from Debian 12 and the packages of assets/images: 1,335,521,097
// and 1,007,934,650 bytes.
const (
	localExporterBytes = 1274 * units.MiB
	localServerBytes   = 961 * units.MiB
)

// localImageBytes is what the local image of a step takes.
func localImageBytes(step pipeline.ID) int64 {
	if step == steps.IDExporterImage {
		return localExporterBytes
	}
	return localServerBytes
}

// about is a number of bytes with two digits, as far as a size holds that was seen once.
func about(bytes int64) int64 {
	digit := int64(10 * units.MiB)
	if bytes >= units.GiB {
		digit = units.GiB / 10
	}
	return (bytes + digit/2) / digit * digit
}

// lookFirst finds out whether anything has run in the workspace, and if not, what a run would get and make. Where that cannot be told, the run
// itself says why.
func (x *session) lookFirst(ctx context.Context) {
	list := x.steps(steps.IDVerify)
	for _, s := range list {
		if _, builds := s.(pipeline.Builder); !builds {
			continue
		}
		if last, err := x.store.Last(x.flags.folders.Workspace, s.ID()); err != nil || last != nil {
			return
		}
	}
	plan, err := (&pipeline.Runner{Workspace: x.flags.folders.Workspace, Store: x.store, Force: x.flags.forced()}).Plan(ctx, list)
	if err == nil {
		x.first = x.firstRun(plan)
	}
}

// firstRun says in one sentence what a first run gets and makes.
func (x *session) firstRun(plan []pipeline.Planned) string {
	images, local, makes, reuses := 0, int64(0), 0, 0
	var does []string
	for _, p := range plan {
		runs := p.Verdict.Kind == pipeline.WillRun || p.Verdict.Kind == pipeline.Depends
		switch {
		case p.Step == steps.IDExporterImage || p.Step == steps.IDServerImage:
			if absent(p) {
				images++
				local += localImageBytes(p.Step)
			}
		case runs && p.Step == steps.IDWeights && x.target.Weights.Kind == target.Pretrained:
			does = append(does, fmt.Sprintf("downloads the pretrained weights (%s)", bytesize.Format(steps.Bytes(x.target, p.Step))))
		case p.Step == steps.IDServe || p.Step == steps.IDVerify:
		case runs:
			makes++
		default:
			reuses++
		}
	}
	switch {
	case images == 0:
	case x.target.Source == target.Local:
		does = append([]string{fmt.Sprintf("builds %s here (about %s)", printable.Count(images, "image"), bytesize.Format(about(local)))}, does...)
	case x.target.Images.Download() > 0:
		does = append([]string{fmt.Sprintf("downloads %s (%s)", printable.Count(images, "image"), bytesize.Format(x.target.Images.Download()))}, does...)
	default: // what could not be looked at
		does = append([]string{"downloads " + printable.Count(images, "image")}, does...)
	}
	switch {
	case makes == 0:
	case reuses == 0:
		does = append(does, "makes each result")
	default:
		does = append(does, "makes "+printable.Count(makes, "result"))
	}
	if len(does) == 0 {
		return "it reuses what runs in other workspaces made"
	}
	return "it " + printable.List(does) + "; the next one reuses what still holds"
}

// absent says whether an image is not there, which is not the only reason to look at it again.
func absent(image pipeline.Planned) bool {
	return slices.ContainsFunc(image.Verdict.Because, func(c pipeline.Change) bool { return strings.HasPrefix(c.Fact, steps.NoLocalImage) })
}
