package report

import (
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/target"
)

// The facts of [pipeline.RunStarted] that a report takes over.
const (
	FactLane      = "lane" // gpu or cpu
	FactReason    = "lane_reason"
	FactImages    = "images"    // ngc or local
	FactRelease   = "release"   // YY.MM; absent with local images
	FactPrecision = "precision" // fp16 or fp32
	FactModel     = "model"     // the recipe, if it is not the default one
	FactWeights   = "weights"   // pretrained, random:SEED or a path
)

// FactFirstRun is the fact of a run that is the first of its workspace: what it has to get and to make before the next
// one can reuse it.
const FactFirstRun = "first_run"

// Facts are those of a target that are stamped on every result, and what a first run does; first is empty for any other
// run.
func Facts(t target.Target, first string) map[string]string {
	facts := map[string]string{
		FactLane: string(t.Lane), FactReason: t.LaneReason, FactImages: string(t.Source), FactWeights: t.Weights.String(),
		FactPrecision: string(t.Precision),
	}
	if t.Recipe.Name != recipe.Default {
		facts[FactModel] = t.Recipe.Name
	}
	if t.Source == target.NGC && t.Release.Tag != "" { // images of any name need not say theirs
		facts[FactRelease] = t.Release.Tag
	}
	images := map[string]target.ImageInfo{"exporter_image": t.Images.Exporter, "server_image": t.Images.Server}
	for name, image := range images {
		if image.Named {
			facts[name] = image.Ref
		}
	}
	if first != "" {
		facts[FactFirstRun] = first
	}
	return facts
}
