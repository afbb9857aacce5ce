package steps_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// trained gives a run pretrained weights.
func trained(t *testing.T, w *world) {
	t.Helper()
	pretrained := cpuNGC(t)
	w.target.Weights, w.tools.Fetcher = pretrained.target.Weights, pretrained.tools.Fetcher
}

// TestReasons changes what a user can change, and checks the reasons of the steps. No reason names an argument or a program.
func TestReasons(t *testing.T) {
	t.Parallel()
	mine := func(t *testing.T, content string) target.WeightsSource {
		t.Helper()
		file := filepath.Join(t.TempDir(), "mine.pth")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return target.WeightsSource{Kind: target.File, Path: file}
	}
	tests := map[string]struct {
		before, change func(*testing.T, *world)
		want           map[pipeline.ID]string
	}{
		"nothing": {nil, func(*testing.T, *world) {}, map[pipeline.ID]string{}},
		"another seed": {
			nil, func(_ *testing.T, w *world) { w.target.Weights.Seed = 8 },
			map[pipeline.ID]string{steps.IDWeights: "weights: random:7 → random:8"},
		},
		"pretrained": {
			nil, func(t *testing.T, w *world) { t.Helper(); trained(t, w) },
			map[pipeline.ID]string{steps.IDWeights: "weights: random:7 → pretrained"},
		},
		"seeded again": {
			func(t *testing.T, w *world) { t.Helper(); trained(t, w) },
			func(_ *testing.T, w *world) { w.target.Weights = target.WeightsSource{Kind: target.Random, Seed: 7} },
			map[pipeline.ID]string{steps.IDWeights: "weights: pretrained → random:7"},
		},
		"a file": {
			nil, func(t *testing.T, w *world) { t.Helper(); w.target.Weights = mine(t, "mine") },
			map[pipeline.ID]string{
				steps.IDWeights:    "weights: random:7 → a file (SHA-256 " + strings.TrimPrefix(sum("mine"), "sha256:")[:12] + "…)",
				steps.IDExportONNX: "weights: pretrained or seeded → a file of yours", steps.IDReference: "weights: pretrained or seeded → a file of yours",
			},
		},
		"another file": {
			func(t *testing.T, w *world) { t.Helper(); w.target.Weights = mine(t, "mine") },
			func(t *testing.T, w *world) { t.Helper(); w.target.Weights = mine(t, "other") },
			map[pipeline.ID]string{
				steps.IDWeights: "weights: a file (SHA-256 " + strings.TrimPrefix(sum("mine"), "sha256:")[:12] + "…) → a file (SHA-256 " +
					strings.TrimPrefix(sum("other"), "sha256:")[:12] + "…)",
			},
		},
		"opt-batch": {
			nil, func(_ *testing.T, w *world) { w.tune(32) },
			map[pipeline.ID]string{steps.IDBuildEngine: "opt-batch: 64 → 32", steps.IDAssembleRepository: "configuration of "},
		},
		"max-batch": {
			nil, func(_ *testing.T, w *world) { w.target.MaxBatch = 128 },
			map[pipeline.ID]string{
				steps.IDBuildEngine: "max-batch: 256 → 128", steps.IDSerializeDALI: "max-batch: 256 → 128", steps.IDAssembleRepository: "configuration of dali: ",
			},
		},
		"serving": {
			nil, func(_ *testing.T, w *world) {
				w.target.Serving.DALIThreads, w.target.Serving.HWDecoderLoad, w.target.Serving.Picture.Width = 2, 0.65, 1920
			},
			map[pipeline.ID]string{
				steps.IDSerializeDALI: "serving.dali-threads: 4 → 2; serving.hw-decoder-load: 0.9 → 0.65; serving.picture-size: 600x400 → 1920x400",
			},
		},
		"precision": {
			nil, func(_ *testing.T, w *world) { w.target.Precision = "fp32" },
			map[pipeline.ID]string{steps.IDBuildEngine: "precision: fp16 → fp32"},
		},
		"GPU": {
			nil, func(_ *testing.T, w *world) {
				w.target.Device = target.Device{Name: "NVIDIA A100", Compute: "8.0", Driver: "570.1"}
			},
			map[pipeline.ID]string{steps.IDBuildEngine: "compute capability: 9.0 → 8.0; NVIDIA driver: " + h100.Driver + " → 570.1; GPU: " + h100.Name + " → NVIDIA A100"},
		},
		"TensorRT, whose trtexec takes other arguments": {
			nil, func(_ *testing.T, w *world) {
				w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", "8.0.1.6"))
			},
			map[pipeline.ID]string{steps.IDBuildEngine: "TensorRT: 10.9.0.34 → 8.0.1.6"},
		},
		"picture": {
			nil, func(_ *testing.T, w *world) { w.target.Picture.Data = otherPicture() },
			map[pipeline.ID]string{steps.IDReference: "picture: "},
		},
		"WSL": {
			nil, func(_ *testing.T, w *world) { w.target.NoNVML = true },
			map[pipeline.ID]string{steps.IDSerializeDALI: "DALI_DISABLE_NVML in the container is new: 1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, v := gpuNGC(t), gpuNGC(t)
			for _, machine := range []*world{w, v} {
				machine.target.Weights = target.WeightsSource{Kind: target.Random, Seed: 7}
				if tt.before != nil {
					tt.before(t, machine)
				}
			}
			tt.change(t, v)
			before, after := allFacts(t, w), allFacts(t, v)
			reasons := map[pipeline.ID]string{}
			for id, now := range after {
				if maps.Equal(before[id], now) {
					continue
				}
				var all []string
				for _, c := range steps.Reasons(id, before[id], now) {
					all = append(all, c.String())
				}
				reasons[id] = strings.Join(all, "; ")
				if want, ok := tt.want[id]; ok && strings.HasPrefix(reasons[id], want) {
					reasons[id] = want // digests follow
				}
				for _, inside := range []string{"argv", ".py", "--", "sha256:", " is gone"} {
					if strings.Contains(reasons[id], inside) {
						t.Errorf("%s: %q is not in a user's words", id, reasons[id])
					}
				}
			}
			if diff := cmp.Diff(tt.want, reasons); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestReasonsOfDalirunItself checks what is said of what no flag changes: images, results of other steps, and a newer dalirun.
func TestReasonsOfDalirunItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		was, is pipeline.Facts
		want    string
	}{
		"another dalirun": {
			pipeline.Facts{"export_onnx.py": "sha256:1", "program.py": "sha256:2", "outputs": "a"},
			pipeline.Facts{"export_onnx.py": "sha256:3", "program.py": "sha256:4", "outputs": "a, b"},
			"another version of dalirun, which makes it otherwise",
		},
		"a GPU that was not proven": {
			pipeline.Facts{"gpu": h100.Name},
			pipeline.Facts{"gpu": h100.Name, "gpu proof": allFacts(t, gpuNGC(t))[steps.IDBuildEngine]["gpu proof"]},
			"another version of dalirun, which makes it otherwise",
		},
		"another image":    {pipeline.Facts{"input exporter-image/image": "sha256:1"}, pipeline.Facts{"input exporter-image/image": "sha256:2"}, "exporter image: sha256:1 → sha256:2"},
		"other weights":    {pipeline.Facts{"input weights/weights.pth": "sha256:1"}, pipeline.Facts{"input weights/weights.pth": "sha256:2"}, "contents of the weights: sha256:1 → sha256:2"},
		"the other lane":   {pipeline.Facts{"input export-onnx/model.onnx": "sha256:1"}, pipeline.Facts{"input build-engine/model.plan": "sha256:2"}, "it reads the engine now; it does not read the ONNX model any more"},
		"other arguments":  {pipeline.Facts{"argv": "python3 x --opset 17"}, pipeline.Facts{"argv": "python3 x --opset 18"}, "arguments: python3 x --opset 17 → python3 x --opset 18"},
		"lane of DALI":     {pipeline.Facts{"argv": "python3 x --device cpu"}, pipeline.Facts{"argv": "python3 x --device gpu"}, "lane: cpu → gpu"},
		"emptied":          {pipeline.Facts{"driver": "1"}, pipeline.Facts{"driver": ""}, `NVIDIA driver: 1 → ""`},
		"an unknown fact":  {pipeline.Facts{"a": "1"}, pipeline.Facts{"a": "2"}, "a: 1 → 2"},
		"an unknown input": {pipeline.Facts{"input x/y": "1"}, pipeline.Facts{"input x/y": "2"}, "y: 1 → 2"},
	} {
		var all []string
		for _, change := range steps.Reasons(steps.IDExportONNX, c.was, c.is) {
			all = append(all, change.String())
		}
		if got := strings.Join(all, "; "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
