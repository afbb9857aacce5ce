package steps_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// What a first run gets and makes is one sentence, whatever is there already.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	missing := pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{{Fact: "there is no local image x"}}}
	unread := pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{{Fact: "this cache does not know its package versions yet: they are read, and the image, which is here, is not built"}}}
	there, will := pipeline.Verdict{Kind: pipeline.WillReuse}, pipeline.Verdict{Kind: pipeline.Depends}
	sized := target.ImagePair{Server: target.ImageInfo{Image: registry.Image{Layers: []registry.Layer{{Digest: "a", Size: 3 << 30}}}}}
	const rest = "; the next one reuses what still holds"
	for name, c := range map[string]struct {
		source                             target.Source
		pair                               target.ImagePair
		weights                            target.WeightsKind
		exporter, server, weigh, assembles pipeline.Verdict
		want                               string
	}{
		"nothing is there":        {target.Local, target.ImagePair{}, target.Pretrained, missing, missing, will, will, "it builds 2 images here (about 2.2 GiB), downloads the pretrained weights (98.23 MiB) and makes each result" + rest},
		"NVIDIA's":                {target.NGC, sized, target.Pretrained, missing, missing, will, will, "it downloads 2 images (3 GiB), downloads the pretrained weights (98.23 MiB) and makes each result" + rest},
		"NVIDIA's, not looked at": {target.NGC, target.ImagePair{}, target.File, missing, there, will, will, "it downloads 1 image and makes each result" + rest},
		"images are there":        {target.Local, target.ImagePair{}, target.Random, unread, there, will, will, "it makes each result" + rest},
		"one image is there":      {target.Local, target.ImagePair{}, target.Random, missing, there, will, will, "it builds 1 image here (about 1.2 GiB) and makes each result" + rest},
		"the other one is":        {target.Local, target.ImagePair{}, target.Random, there, missing, will, will, "it builds 1 image here (about 960 MiB) and makes each result" + rest},
		"some results are there":  {target.Local, target.ImagePair{}, target.Random, there, there, there, will, "it makes 1 result" + rest},
		"only weights are not":    {target.Local, target.ImagePair{}, target.Pretrained, there, there, will, there, "it downloads the pretrained weights (98.23 MiB)" + rest},
		"all is there":            {target.Local, target.ImagePair{}, target.Pretrained, there, there, there, there, "it reuses what runs in other workspaces made"},
	} {
		run := target.Target{Source: c.source, Weights: target.WeightsSource{Kind: c.weights}, Images: c.pair}
		got := steps.FirstRun(run, []pipeline.Planned{
			{Step: steps.IDExporterImage, Verdict: c.exporter},
			{Step: steps.IDServerImage, Verdict: c.server},
			{Step: steps.IDWeights, Verdict: c.weigh},
			{Step: steps.IDAssembleRepository, Verdict: c.assembles},
			{Step: steps.IDServe, Verdict: pipeline.Verdict{Kind: pipeline.AlwaysRuns}},
		})
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// The README names the sizes of the local images that a first run and doctor reckon with.
func TestLocalImagesAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	size := func(id pipeline.ID) string { return bytesize.About(steps.LocalImageBytes(id)) }
	want := "two small images (" + size(steps.IDExporterImage) + " and " + size(steps.IDServerImage) + ")"
	if !strings.Contains(string(readme), want) {
		t.Errorf("README.md does not say %q", want)
	}
	if doctor.LocalImagesNeed < 2*(steps.LocalImageBytes(steps.IDExporterImage)+steps.LocalImageBytes(steps.IDServerImage)) {
		t.Errorf("doctor leaves no room for their builds: %d bytes", int64(doctor.LocalImagesNeed))
	}
}
