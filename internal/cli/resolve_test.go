package cli

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/pipeline"
)

// The tutorial's release is tuned for single pictures, whoever says that it is taken.
func TestOptBatchOfTheTutorial(t *testing.T) {
	t.Parallel()
	server := registrytest.New(t)
	server.Push(t, "team/tutorial:prod", registrytest.Tritonserver("amd64", "21.07", "2.12.0", "8.0.1.6", "11.4.0.031", "1.3.0"))
	server.Push(t, "team/newer:prod", registrytest.Tritonserver("amd64", "25.03", "2.56.0", "10.9.0.34", "12.8.1.012", "1.44.0"))
	server.Push(t, "nvidia/tritonserver:21.07-py3", registrytest.Tritonserver("amd64", "21.07", "2.12.0", "8.0.1.6", "11.4.0.031", "1.3.0"))
	server.Push(t, "nvidia/pytorch:21.07-py3", registrytest.Pytorch("amd64", "21.07", "8.0.1.6", "11.4.0.031", "1.3.0"))
	server.Push(t, "nvidia/pytorch:25.03-py3", registrytest.Pytorch("amd64", "25.03", "10.9.0.34", "12.8.1.012", "1.44.0"))
	const tutorial, newer = "/team/tutorial:prod", "/team/newer:prod"
	for name, c := range map[string]struct {
		flags []string
		want  int
	}{
		"release":                     {[]string{"--release=21.07"}, 1},
		"server image":                {[]string{"--server-image=" + server.Host() + tutorial}, 1},
		"both images":                 {[]string{"--server-image=" + server.Host() + tutorial, "--exporter-image=" + server.Host() + "/nvidia/pytorch:21.07-py3"}, 1},
		"release and image":           {[]string{"--release=21.07", "--server-image=" + server.Host() + tutorial}, 1},
		"another release":             {[]string{"--release=25.03", "--server-image=" + server.Host() + newer}, 64},
		"another server image":        {[]string{"--server-image=" + server.Host() + newer}, 64},
		"another, with few at a time": {[]string{"--max-batch=8", "--server-image=" + server.Host() + newer}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := append([]string{"--accel=cpu", "--images=ngc", "--weights=random:0", "--registry=" + server.Host()}, c.flags...)
			r, err := diagnose(t, container.Info{Version: "29.0.0", Arch: "amd64"}, flags...).found()
			if err != nil || r.OptBatch != c.want {
				t.Errorf("got %d with %v, want %d", r.OptBatch, err, c.want)
			}
		})
	}
}

func TestForced(t *testing.T) {
	t.Parallel()
	var every []pipeline.ID
	for _, id := range stepIDs() {
		every = append(every, pipeline.ID(id))
	}
	slices.Sort(every)
	for name, c := range map[string]struct {
		force []string
		want  []pipeline.ID
	}{
		"none":           {nil, nil},
		"one":            {[]string{"export-onnx"}, []pipeline.ID{"export-onnx"}},
		"all is no step": {[]string{"all"}, every},
		"all and one":    {[]string{"export-onnx", "all"}, every},
	} {
		w := wishes{force: c.force}
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(w.forced()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
