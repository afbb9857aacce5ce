package trtexec_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// The plan of the H100 in fp16, and the ONNX model that it was built from, in bytes: trtexec printed 50.2603 MiB.
const (
	planBytes = 52701748
	onnxBytes = 102146522
)

// recorded is a build in fp16 as the H100's trtexec 10.6 printed and exported it.
func recorded(t *testing.T) (trtexec.Build, trtexec.RequestedGPU, trtexec.Evidence) {
	t.Helper()
	_, facts := readLog(tooltest.Output("trtexec-10.6-build-fp16.log") + tooltest.Output("trtexec-10.6-getPlanVersionOnly.log"))
	gpu := trtexec.RequestedGPU{Flag: "all", Model: "NVIDIA H100 80GB HBM3", Compute: "9.0", UUIDs: []string{"GPU-b2b10123-43d8-7094-32ab-39106cb54c35"}}
	return build(), gpu, trtexec.Evidence{
		Log: facts, LayerInfo: []byte(tooltest.Output("trtexec-10.6-layers-fp16.json")), PlanBytes: planBytes, PlanSHA256: "f00d",
		ONNXBytes: onnxBytes, TensorRT: version(t, "10.6.0.26"), ImageTensorRT: "10.6.0.26",
	}
}

// TestProve proves what was recorded, and what is left of it where trtexec tells less.
func TestProve(t *testing.T) {
	t.Parallel()
	picture := func(batch int64) []int64 { return []int64{batch, 3, 224, 224} }
	input := trtexec.Binding{Name: "input", Type: "FP32", Dims: picture(-1)}
	whole := trtexec.Engine{
		TensorRT: "10.6.0.26", ReadBack: true, GPU: "NVIDIA H100 80GB HBM3", GPUUUID: "GPU-b2b10123-43d8-7094-32ab-39106cb54c35", GPUBy: trtexec.ProofUUID,
		Compute: "9.0", Precision: trtexec.PrecisionProof{Requested: "fp16", By: trtexec.ProofTensors, Half: 320, All: 322},
		Inputs: []trtexec.Binding{input}, Outputs: []trtexec.Binding{{Name: "output", Type: "FP32", Dims: []int64{-1, 1000}}},
		Profile: &trtexec.Profile{Input: "input", Min: picture(1), Opt: picture(64), Max: picture(256)}, Bytes: planBytes, SHA256: "f00d",
	}
	bySize := trtexec.PrecisionProof{Requested: "fp16", By: trtexec.ProofSize, Half: planBytes, All: onnxBytes}
	hidden := strings.NewReplacer(`"Half"`, `"N/A due to dynamic shapes"`, `"Float"`, `"N/A due to dynamic shapes"`)
	tests := map[string]struct {
		change func(*trtexec.Build, *trtexec.RequestedGPU, *trtexec.Evidence)
		want   func(*trtexec.Engine)
		doubts []string // how each begins
		text   string
	}{
		"as recorded": {
			func(*trtexec.Build, *trtexec.RequestedGPU, *trtexec.Evidence) {}, func(*trtexec.Engine) {}, nil,
			"fp16 in 99.4 % of 322 tensors, TensorRT 10.6.0.26, batch 1/64/256, 50.26 MiB",
		},
		"fp32": {
			func(b *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) {
				b.Precision, e.LayerInfo = release.FP32, []byte(tooltest.Output("trtexec-10.6-layers-fp32.json"))
			},
			func(e *trtexec.Engine) {
				e.Precision = trtexec.PrecisionProof{Requested: "fp32", By: trtexec.ProofTensors, Half: 0, All: 324}
			}, nil, "fp32 in all of 324 tensors, TensorRT",
		},
		"types of tensors hidden": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) {
				text := strings.ReplaceAll(string(e.LayerInfo), `"Format/Datatype": "Half"`, `"Format/Datatype": "N/A due to dynamic shapes"`)
				e.LayerInfo = []byte(strings.ReplaceAll(text, `"Format/Datatype": "Float"`, `"Format/Datatype": "N/A due to dynamic shapes"`))
			},
			func(e *trtexec.Engine) { // input and output are known by the formats that trtexec printed
				e.Precision = trtexec.PrecisionProof{Requested: "fp16", By: trtexec.ProofWeights, Half: 53, All: 53}
			}, nil, "fp16 in 100.0 % of 53 layers with weights",
		},
		"all types hidden": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) {
				e.LayerInfo = []byte(hidden.Replace(string(e.LayerInfo)))
			},
			func(e *trtexec.Engine) { e.Precision = bySize }, nil, "fp16 by the plan's size, 50.26 MiB for a model of 97.41 MiB",
		},
		"no layers": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) { e.LayerInfo = nil },
			func(e *trtexec.Engine) { e.Precision, e.Outputs = bySize, nil },
			[]string{"trtexec did not describe the engine's layers"},
			"fp16 by the plan's size",
		},
		"no layers, from a model that was cast": {
			func(b *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) {
				b.Cast, e.LayerInfo, e.ONNXBytes = true, nil, onnxBytes/2
			},
			func(e *trtexec.Engine) { e.Precision, e.Outputs = bySize, nil },
			[]string{"trtexec did not describe the engine's layers"},
			"fp16 by the plan's size",
		},
		"TensorRT 8.0, which neither describes layers nor reads a plan back": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) {
				e.LayerInfo, e.TensorRT, e.ImageTensorRT, e.Log.PlanVersion = nil, release.Version{Major: 8, Patch: 1, Build: 6}, "8.0.1.6", ""
			},
			func(e *trtexec.Engine) {
				e.Precision, e.Outputs, e.TensorRT, e.ReadBack = bySize, nil, "8.0.1.6", false
			}, nil, "TensorRT 8.0.1.6, batch",
		},
		"the plan is not read back": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) { e.Log.PlanVersion = "" },
			func(e *trtexec.Engine) { e.ReadBack = false },
			[]string{"trtexec did not say which TensorRT the engine names: it is taken for that of the image, 10.6.0.26"},
			"TensorRT 10.6.0.26",
		},
		"a version without its last part": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) { e.Log.PlanVersion = "10.6.0" },
			func(e *trtexec.Engine) { e.TensorRT = "10.6.0" }, nil, "TensorRT 10.6.0,",
		},
		"an image that says no version": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) { e.ImageTensorRT = "" }, func(*trtexec.Engine) {}, nil, "TensorRT 10.6.0.26",
		},
		"nothing is known of the GPU": {
			func(_ *trtexec.Build, g *trtexec.RequestedGPU, _ *trtexec.Evidence) {
				*g = trtexec.RequestedGPU{Flag: "all", Location: "GPU 0 at tcp://far:2375"}
			},
			func(e *trtexec.Engine) { e.GPU, e.GPUBy, e.Compute = "GPU 0 at tcp://far:2375", "", "" },
			[]string{"it is not proven that the engine was built on a GPU that was asked for: trtexec took NVIDIA H100 80GB HBM3, GPU-b2b1"},
			"50.26 MiB",
		},
		"no profile": {
			func(_ *trtexec.Build, _ *trtexec.RequestedGPU, e *trtexec.Evidence) { e.Log.Profile = nil },
			func(e *trtexec.Engine) { e.Profile = nil }, nil, "TensorRT 10.6.0.26, 50.26 MiB",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gpu, found := recorded(t)
			tt.change(&b, &gpu, &found)
			got, err := trtexec.Prove(b, gpu, found)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Doubts) != len(tt.doubts) {
				t.Fatalf("the doubts are %q", got.Doubts)
			}
			for i, doubt := range tt.doubts {
				if !strings.HasPrefix(got.Doubts[i], doubt) {
					t.Errorf("it doubts that %q, want %q", got.Doubts[i], doubt)
				}
			}
			want := whole
			tt.want(&want)
			want.Doubts = got.Doubts
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(got.String(), tt.text) {
				t.Errorf("it is %q, want %q", got, tt.text)
			}
			file := filepath.Join(t.TempDir(), "engine.json")
			if err := got.WriteFile(file); err != nil {
				t.Fatal(err)
			}
			if read, err := trtexec.ReadEngine(file); err != nil || !cmp.Equal(got, read) {
				t.Errorf("it is read as %+v, %v", read, err)
			}
		})
	}
}

// TestProveRefuses checks every way in which what was built is not what was asked for.
func TestProveRefuses(t *testing.T) {
	t.Parallel()
	fp32Layers := []byte(tooltest.Output("trtexec-10.6-layers-fp32.json"))
	tests := map[string]struct {
		change func(*trtexec.Build, *trtexec.Evidence)
		want   string
		hint   string
	}{
		"fp32 although fp16 was asked for": {
			func(_ *trtexec.Build, e *trtexec.Evidence) { e.LayerInfo = fp32Layers },
			"the engine is fp32 although fp16 was asked for: 0 of its 324 tensors are half precision", "--precision fp32",
		},
		"fp32 from a model that was cast": {
			func(b *trtexec.Build, e *trtexec.Evidence) { b.Cast, e.LayerInfo = true, fp32Layers },
			"the engine is fp32 although fp16 was asked for: 0 of its 324", "--precision fp32",
		},
		"fp32 by its weights": {
			func(_ *trtexec.Build, e *trtexec.Evidence) {
				e.LayerInfo = []byte(strings.ReplaceAll(string(fp32Layers), `"Format/Datatype": "Float"`, `"Format/Datatype": "N/A"`))
			}, "0 of its 53 layers with weights are half precision", "--precision fp32",
		},
		"fp32 by its size": {
			func(_ *trtexec.Build, e *trtexec.Evidence) { e.LayerInfo, e.ONNXBytes = nil, planBytes },
			"the engine is fp32 although fp16 was asked for: its plan has 50.26 MiB, the ONNX model in fp32 has 50.26 MiB", "--precision fp32",
		},
		"fp16 although fp32 was asked for": {
			func(b *trtexec.Build, _ *trtexec.Evidence) { b.Precision = release.FP32 },
			"the engine is fp16 although fp32 was asked for: 320 of its 322 tensors", "--precision fp16",
		},
		"fp16 although fp32 was asked for, by its size": {
			func(b *trtexec.Build, e *trtexec.Evidence) { b.Precision, e.LayerInfo = release.FP32, nil },
			"the engine is fp16 although fp32 was asked for: its plan has 50.26 MiB", "--precision fp16",
		},
		"smallest batch": {
			func(_ *trtexec.Build, e *trtexec.Evidence) { e.Log.Profile.Min[0] = 8 },
			"the engine was built for batches of 8 to 256, best at 64; asked for was 1 to 256, best at 64", "--minShapes",
		},
		"best batch": {
			func(b *trtexec.Build, _ *trtexec.Evidence) { b.OptBatch = 32 },
			"the engine was built for batches of 1 to 256, best at 64; asked for was 1 to 256, best at 32", "--optShapes",
		},
		"largest batch": {
			func(b *trtexec.Build, _ *trtexec.Evidence) { b.MaxBatch = 128 },
			"the engine was built for batches of 1 to 256, best at 64; asked for was 1 to 128, best at 64", "--maxShapes",
		},
		"cut":               {func(_ *trtexec.Build, e *trtexec.Evidence) { e.PlanBytes /= 2 }, "the engine was cut: 25.13 MiB of 50.26 MiB were saved", "--cache-dir"},
		"cut by a few KiB":  {func(_ *trtexec.Build, e *trtexec.Evidence) { e.PlanBytes -= 1024 }, "the engine was cut: ", "--cache-dir"},
		"another TensorRT":  {func(_ *trtexec.Build, e *trtexec.Evidence) { e.Log.PlanVersion = "10.3.0.26" }, "built by TensorRT 10.3.0.26, and the image says that it has 10.6.0.26", "-py3"},
		"another last part": {func(_ *trtexec.Build, e *trtexec.Evidence) { e.ImageTensorRT = "10.6.0.27" }, "built by TensorRT 10.6.0.26, and the image says that it has 10.6.0.27", "-py3"},
		"no GPU":            {func(_ *trtexec.Build, e *trtexec.Evidence) { e.Log.GPU = trtexec.SelectedGPU{} }, "trtexec did not say which GPU it took", "Selected Device"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gpu, found := recorded(t)
			tt.change(&b, &found)
			_, err := trtexec.Prove(b, gpu, found)
			f, ok := errors.AsType[*pipeline.Fault](err)
			if !ok || f.Kind != pipeline.ContainerFailed || !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("got %v, want %q with the hint %q", err, tt.want, tt.hint)
			}
		})
	}
	b, gpu, found := recorded(t)
	gpu.Model = "NVIDIA L4"
	if _, err := trtexec.Prove(b, gpu, found); !errorIs[*trtexec.OtherGPUError](err) {
		t.Errorf("another GPU: %v", err)
	}
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestOldEngineSize checks what is made of a size by a TensorRT that does not print the plan's: "MB" may be either.
func TestOldEngineSize(t *testing.T) {
	t.Parallel()
	for size, cut := range map[string]bool{
		"53 MB": false, "50 MB": false, "50 MiB": false, "51 MiB": false, "53 MiB": true, "57 MB": true, "40 MB": true,
	} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			b, gpu, found := recorded(t)
			_, facts := readLog("[I] [TRT] Loaded engine size: " + size)
			found.Log.PlanMiB, found.Log.PlanMiBError = facts.PlanMiB, facts.PlanMiBError
			_, err := trtexec.Prove(b, gpu, found)
			if got := err != nil && strings.Contains(err.Error(), "the engine was cut"); got != cut || !cut && err != nil {
				t.Errorf("a plan of 50.26 MiB: %v", err)
			}
		})
	}
}

// TestReadEngine checks what is no engine.
func TestReadEngine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "engine.json")
	if _, err := trtexec.ReadEngine(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trtexec.ReadEngine(file); err == nil || !strings.Contains(err.Error(), "read what is known of the engine") {
		t.Errorf("half a file: %v", err)
	}
}
