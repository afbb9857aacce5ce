package steps

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// What the local images take, by the sizes that the container engine gave of those made from Debian 12 and the packages
// of assets/images: 1,335,521,097 and 1,007,934,650 bytes.
const (
	localExporterBytes = 1274 << 20
	localServerBytes   = 961 << 20
)

// LocalImageBytes is what the local image of an image step takes, as far as it was seen once.
func LocalImageBytes(id pipeline.ID) int64 {
	if id == IDExporterImage {
		return localExporterBytes
	}
	return localServerBytes
}

// FirstRun says in one sentence what a first run gets and makes.
func FirstRun(t target.Target, plan []pipeline.Planned) string {
	images, local, makes, reuses := 0, int64(0), 0, 0
	var does []string
	for _, p := range plan {
		runs := p.Verdict.Kind == pipeline.WillRun || p.Verdict.Kind == pipeline.Depends
		switch {
		case p.Step == IDExporterImage || p.Step == IDServerImage:
			if ImageMissing(p) {
				images++
				local += LocalImageBytes(p.Step)
			}
		case runs && p.Step == IDWeights && t.Weights.Kind == target.Pretrained:
			does = append(does, "downloads the pretrained weights ("+bytesize.Format(Bytes(t, p.Step))+")")
		case p.Step == IDServe || p.Step == IDVerify:
		case runs:
			makes++
		default:
			reuses++
		}
	}
	switch {
	case images == 0:
	case t.Source == target.Local:
		does = slices.Insert(does, 0, fmt.Sprintf("builds %s here (about %s)", printable.Count(images, "image"),
			bytesize.About(local)))
	case t.Images.Download() > 0:
		does = slices.Insert(does, 0, fmt.Sprintf("downloads %s (%s)", printable.Count(images, "image"),
			bytesize.Format(t.Images.Download())))
	default: // what could not be looked at
		does = slices.Insert(does, 0, "downloads "+printable.Count(images, "image"))
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

// ImageMissing says whether a planned step makes an image because it is not there. It may do so for other reasons.
func ImageMissing(image pipeline.Planned) bool {
	return slices.ContainsFunc(image.Verdict.Because, func(c pipeline.Change) bool {
		return strings.HasPrefix(c.Fact, noLocalImage)
	})
}
