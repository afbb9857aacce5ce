package steps_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// allFacts are the facts of every builder of w.
func allFacts(t *testing.T, w *world) map[pipeline.ID]pipeline.Facts {
	t.Helper()
	all := map[pipeline.ID]pipeline.Facts{}
	for _, s := range w.list(steps.IDReference) {
		if _, ok := s.(pipeline.Builder); ok {
			all[s.ID()] = w.facts(t, s.ID())
		}
	}
	return all
}

// TestFacts checks for each thing that a result depends on which steps count it, and that nothing else is counted: a
// fact that is missing serves an old result, and one too many builds for nothing.
func TestFacts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*testing.T, *world)
		want   []pipeline.ID // whose facts change
	}{
		"nothing": {func(*testing.T, *world) {}, nil},
		"seed":    {func(_ *testing.T, w *world) { w.target.Weights.Seed = 8 }, []pipeline.ID{steps.IDWeights}},
		"kind of weights": {func(t *testing.T, w *world) {
			t.Helper()
			file := filepath.Join(w.dir, "mine.pth")
			if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.target.Weights = target.WeightsSource{Kind: target.File, Path: file}
		}, []pipeline.ID{steps.IDExportONNX, steps.IDReference, steps.IDWeights}},
		"optimal batch": {
			func(_ *testing.T, w *world) { w.tune(32) },
			[]pipeline.ID{steps.IDAssembleRepository, steps.IDBuildEngine},
		},
		"largest batch": {
			func(_ *testing.T, w *world) { w.target.MaxBatch = 128 },
			[]pipeline.ID{steps.IDAssembleRepository, steps.IDBuildEngine, steps.IDSerializeDALI},
		},
		"precision":          {func(_ *testing.T, w *world) { w.target.Precision = "fp32" }, []pipeline.ID{steps.IDBuildEngine}},
		"GPU":                {func(_ *testing.T, w *world) { w.target.Device.Name = "NVIDIA A100" }, []pipeline.ID{steps.IDBuildEngine}},
		"compute capability": {func(_ *testing.T, w *world) { w.target.Device.Compute = "8.0" }, []pipeline.ID{steps.IDBuildEngine}},
		"driver":             {func(_ *testing.T, w *world) { w.target.Device.Driver = "570.1" }, []pipeline.ID{steps.IDBuildEngine}},
		"TensorRT of the image": {func(_ *testing.T, w *world) {
			w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", "10.9.0.99"))
		}, []pipeline.ID{steps.IDBuildEngine}},
		"TensorRT of the release, which the image overrules": {
			func(_ *testing.T, w *world) { w.target.Release.TensorRT = "8.0.1" }, nil,
		},
		"NVML": {func(_ *testing.T, w *world) { w.target.NoNVML = true }, []pipeline.ID{steps.IDSerializeDALI}},
		"picture": {
			func(_ *testing.T, w *world) { w.target.Picture.Data = otherPicture() }, []pipeline.ID{steps.IDReference},
		},
		"what only the run depends on": {func(_ *testing.T, w *world) {
			w.target.GPUs, w.target.ReadyTimeout, w.tools.Handover = container.GPUs{Devices: []string{"1"}}, 1, handover(true)
			w.target.Ports.HTTP.Host, w.target.Picture.Name = 1234, "other.jpg"
		}, nil},
	}
	base := gpuNGC(t)
	base.target.Weights.Seed = 7
	before := allFacts(t, base)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.Weights.Seed = 7
			tt.change(t, w)
			var changed []pipeline.ID
			for id, facts := range allFacts(t, w) {
				if !maps.Equal(facts, before[id]) {
					changed = append(changed, id)
				}
			}
			slices.Sort(changed)
			if diff := cmp.Diff(tt.want, changed); diff != "" {
				t.Errorf("steps whose facts change (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEngineFacts checks where TensorRT's version is from, since it decides how trtexec is spoken to.
func TestEngineFacts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		release, image string // TensorRT of each
		want, flag     string
	}{
		"image overrules the table":     {"10.9.0.34", "8.0.1.6", "8.0.1.6", "--explicitBatch"},
		"image does not say":            {"10.9.0.34", "", "10.9.0.34", "--skipInference"},
		"table does not know":           {"", "10.9.0.34+cuda12.8", "10.9.0.34", "--skipInference"},
		"newer than the table, by 10.x": {"10.9.0.34", "10.16.1.11", "10.16.1.11", "--fp16"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.Release.TensorRT = tt.release
			w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", tt.image))
			facts := w.facts(t, steps.IDBuildEngine)
			if facts["tensorrt"] != tt.want || !strings.Contains(facts["argv"], tt.flag) {
				t.Errorf("facts %v, want TensorRT %s and %s", facts, tt.want, tt.flag)
			}
			if facts["gpu"] != h100.Name || facts["compute"] != h100.Compute || facts["driver"] != h100.Driver {
				t.Errorf("facts %v lack the GPU %+v", facts, h100)
			}
			if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			specs := w.fake.Specs()
			if got := strings.Join(specs[len(specs)-1].Command, " "); !strings.Contains(got, tt.flag) {
				t.Errorf("trtexec is run as %s", got)
			}
		})
	}
}

// TestEngineCannotBeBuilt checks that an engine that would silently be another one is refused before anything runs.
func TestEngineCannotBeBuilt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ release, image, want, hint string }{
		"TensorRT is not known":       {"", "", "does not say which TensorRT", "plain -py3 image"},
		"TensorRT 11 casts no fp16":   {"10.9.0.34", "11.1.0.106", "does not cast to fp16", "older release"},
		"the image's version is none": {"10.9.0.34", "unknown", "does not say which TensorRT", "plain -py3 image"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.Release.TensorRT = tt.release
			w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", tt.image))
			in := w.make(t, steps.IDBuildEngine)
			_, err := w.builder(t, steps.IDBuildEngine).Facts(t.Context(), in)
			for _, err := range []error{err, w.run(t, t.Context(), steps.IDBuildEngine)} {
				f := fault(t, err, pipeline.Environment)
				if !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) {
					t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
				}
			}
			if slices.Contains(w.ran(), string(steps.IDBuildEngine)) {
				t.Error("trtexec was run")
			}
		})
	}
}

// TestFactsOfAbsentImage checks that an image that was removed leaves what was made with it known: its readers' facts,
// TensorRT's version among them, are those that they were.
func TestFactsOfAbsentImage(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", "10.9.0.99"))
	before := w.facts(t, steps.IDBuildEngine)
	_, was := w.observe(t, steps.IDServerImage)
	w.fake.Prune(w.target.Release.ServerRef(""))

	state, is := w.observe(t, steps.IDServerImage)
	if state.Present || !strings.Contains(state.Reason, "no local image nvcr.io/nvidia/tritonserver:25.03-py3") {
		t.Errorf("state %+v", state)
	}
	if diff := cmp.Diff(was, is); diff != "" || is["image"].Digest == "" {
		t.Errorf("values when present and when absent:\n%s", diff)
	}
	in := w.make(t, steps.IDBuildEngine)
	in[w.step(steps.IDServerImage).Outputs()[0]] = is["image"]
	after, err := w.builder(t, steps.IDBuildEngine).Facts(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" || after["tensorrt"] != "10.9.0.99" {
		t.Errorf("facts when present and when absent:\n%s", diff)
	}
}

// TestImageDigest checks what identifies an image: the registry's digest, or its ID where it has none.
func TestImageDigest(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	ref := w.target.Release.ServerRef("")
	w.fake.AddLocal(ref, containertest.Image{Image: container.Image{ID: "sha256:id"}})
	if _, values := w.observe(t, steps.IDServerImage); values["image"].Digest != "sha256:id" || values["image"].Ref != ref {
		t.Errorf("an image that was loaded from a file is %+v", values)
	}
	w.fake.AddLocal(ref, containertest.Image{Image: container.Image{ID: "sha256:id", Digest: "sha256:registry"}})
	if _, values := w.observe(t, steps.IDServerImage); values["image"].Digest != "sha256:registry" {
		t.Errorf("an image that was pulled is %+v", values)
	}
}
