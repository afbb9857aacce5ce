package report

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// ngc is a run with an image that the registry described and one that says nothing.
func ngc() target.Target {
	return target.Target{
		Recipe: recipe.Recipe{Name: recipe.Default},
		Lane:   target.GPU, LaneReason: "asked for", Source: target.NGC, Release: release.Release{Tag: "25.03"}, Precision: release.FP16,
		Weights: target.WeightsSource{Kind: target.Random, Seed: 7},
		Images: target.ImagePair{
			Exporter: target.ImageInfo{Ref: "r/pytorch:1", Found: target.InEngine, Image: registry.Image{Arch: "amd64"}},
			Server: target.ImageInfo{Ref: "r/triton:1", Named: true, Found: target.InRegistry, Image: registry.Image{
				Arch: "amd64", Env: map[string]string{"TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8", "DALI_VERSION": "1.47"},
				Layers: []registry.Layer{{Digest: "a", Size: 2 << 30}},
			}},
		},
	}
}

func steps() []pipeline.Planned {
	return []pipeline.Planned{
		{Step: "weights", Verdict: pipeline.Verdict{Kind: pipeline.WillReuse}},
		{Step: "serve", Verdict: pipeline.Verdict{Kind: pipeline.AlwaysRuns}},
	}
}

func TestPlanText(t *testing.T) {
	t.Parallel()
	unknown := ngc()
	unknown.Images.Server = target.ImageInfo{Ref: "r/triton:1", Unknown: "no answer"}
	local := target.Target{Lane: target.CPU, LaneReason: "no GPU", Source: target.Local, Weights: target.WeightsSource{Kind: target.Random}}
	for name, c := range map[string]struct {
		target target.Target
		doubts []string
		first  string
		want   string
	}{
		"local images": {local, []string{"a doubt"}, "it makes 1 result", `lane cpu (no GPU), images local, weights random:0
a run would be the first in this workspace: it makes 1 result

weights  cached
serve    runs
`},
		"NVIDIA's": {ngc(), []string{"the driver is old"}, "", `lane gpu (asked for), images ngc, weights random:7

exporter image  r/pytorch:1  container engine: does not say what it holds
server image    r/triton:1   registry: TensorRT 10.9.0.34, CUDA 12.8, DALI 1.47, 2 GiB to download
verdict         fits; 6.5 GiB on disk: 2 GiB to download, 2.25 times that unpacked (assumed), and both while they are pulled
                the driver is old

weights  cached
serve    runs
`},
		"not looked at": {unknown, nil, "", `lane gpu (asked for), images ngc, weights random:7

exporter image  r/pytorch:1  container engine: does not say what it holds
server image    r/triton:1   not found out
verdict         not checked

weights  cached
serve    runs
`},
	} {
		var b bytes.Buffer
		if err := NewPlan(c.target, c.doubts, Facts(c.target, c.first), steps()).WriteText(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What was named by itself is a fact, and so is the release that images say.
func TestFacts(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		FactLane: "gpu", FactReason: "asked for", FactImages: "ngc", FactRelease: "25.03", FactPrecision: "fp16", FactWeights: "random:7",
		FactFirstRun: "it makes 1 result", "server_image": "r/triton:1",
	}
	other := ngc()
	other.Recipe.Name = "densenet121"
	if got := Facts(other, ""); got[FactModel] != "densenet121" {
		t.Errorf("of another model: %q", got)
	}
	if diff := cmp.Diff(want, Facts(ngc(), "it makes 1 result")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
