package steps_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// says is a trtexec that prints what the real one printed on an H100, and leaves a plan of that size and the layers that it exported.
func says(t *testing.T, bytes int64, layers string, logs ...string) containertest.Program {
	t.Helper()
	var out []byte
	for _, log := range logs {
		out = append(out, tooltest.Output(log)...)
	}
	return func(_ context.Context, spec container.Spec, streams container.Streams) int {
		host, _, err := containertest.HostPath(spec, "/out")
		if err == nil && layers != "" {
			err = os.WriteFile(filepath.Join(host, "layers.json"), []byte(tooltest.Output(layers)), 0o600)
		}
		if err == nil && bytes > 0 {
			err = os.WriteFile(filepath.Join(host, "model.plan"), nil, 0o600)
		}
		if err == nil && bytes > 0 {
			err = os.Truncate(filepath.Join(host, "model.plan"), bytes)
		}
		if err != nil {
			t.Error(err)
		}
		_, _ = streams.Stdout.Write(out)
		return 0
	}
}

// on106 is a world whose images have the TensorRT of the H100's logs.
func on106(t *testing.T, precision string) *world {
	t.Helper()
	w := gpuNGC(t)
	w.target.Release.TensorRT = "10.6.0.26"
	w.target.Precision = map[string]target.Target{"fp16": {Precision: "fp16"}, "fp32": {Precision: "fp32"}}[precision].Precision
	w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", "10.6.0.26"))
	return w
}

// The plans of the H100, in bytes: trtexec printed 50.2603 and 98.7913 MiB.
const (
	planFP16 = 52701748
	planFP32 = 103590182
)

// progress returns the texts of the progress that steps emitted, but for pulls.
func (w *world) progress() []string {
	var texts []string
	for _, p := range w.payloads {
		if x, ok := p.(pipeline.Progress); ok && !strings.Contains(x.Text, "pull") {
			texts = append(texts, x.Text)
		}
	}
	return texts
}

// emitted reports whether a line or warning contains text.
func (w *world) emitted(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.payloads, func(p pipeline.Payload) bool {
		line, _ := p.(pipeline.Line)
		warning, _ := p.(pipeline.Warning)
		return strings.Contains(line.Text+warning.Text, text)
	})
}

// TestEngineOfRealLogs reads what trtexec 10.6 printed and exported on an H100.
func TestEngineOfRealLogs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		program   func(*testing.T) containertest.Program
		precision string
		line      string
		progress  []string
		half, all int64
	}{
		"fp16": {
			func(t *testing.T) containertest.Program {
				t.Helper()
				return says(t, planFP16, "trtexec-10.6-layers-fp16.json", "trtexec-10.6-build-fp16.log", "trtexec-10.6-getPlanVersionOnly.log")
			}, "fp16", "engine: fp16 in 99.4 % of 322 tensors, TensorRT 10.6.0.26, batch 1/64/256, 50.26 MiB",
			[]string{
				"loading TensorRT", "parsing the model", "timing kernels, which takes a minute or more", "building the engine",
				"engine built in 68.7353 s", "saving and checking the engine",
			},
			320, 322,
		},
		"fp32, with the times of another build": {
			func(t *testing.T) containertest.Program {
				t.Helper()
				return says(t, planFP32, "trtexec-10.6-layers-fp32.json", "trtexec-10.6-build-fp32.log", "trtexec-10.6-getPlanVersionOnly.log")
			}, "fp32", "engine: fp32 in all of 324 tensors, TensorRT 10.6.0.26, batch 1/64/256, 98.79 MiB",
			[]string{
				"loading TensorRT", "parsing the model", "reading how long kernels took an earlier build", "timing kernels that no earlier build timed",
				"building the engine",
				"engine built in 0.958058 s", "saving and checking the engine",
			},
			0, 324,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := on106(t, tt.precision)
			w.target.GPUUUIDs = []string{"GPU-b2b10123-43d8-7094-32ab-39106cb54c35"}
			w.make(t, steps.IDBuildEngine)
			w.instead(steps.IDBuildEngine, tt.program(t))
			before := len(w.progress())
			if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.progress, w.progress()[before:]); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
			if !w.emitted(tt.line) {
				t.Errorf("it does not say %q: %v", tt.line, w.payloads[len(w.payloads)-2:])
			}
			e, ok := resultOf(t, w, result.Engine)
			if !ok || e.Precision.Half != tt.half || e.Precision.All != tt.all || e.Precision.By != trtexec.ProofTensors || !e.ReadBack {
				t.Errorf("the result is %+v", e)
			}
			file := filepath.Join(w.dir, "build-engine", "engine.json")
			var stored trtexec.Engine
			if err := json.Unmarshal(read(t, file), &stored); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e, stored); diff != "" {
				t.Errorf("the result and what is stored:\n%s", diff)
			}
			golden(t, "engine/"+tt.precision+".json", read(t, file))
			if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEngineIsAnother checks every way in which what trtexec built is not what was asked for, although it ended well.
func TestEngineIsAnother(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		world func(*testing.T) *world
		build fakeBuild
		want  string
		hint  string
	}{
		"fp32 although fp16 was asked for": {
			gpuNGC, fakeBuild{fp32: true}, "the engine is fp32 although fp16 was asked for: 0 of its 5 tensors are half precision", "--precision fp32",
		},
		"fp32 by its weights": {
			gpuNGC, fakeBuild{layers: hidden(layersOf("Float"))}, "fp32 although fp16 was asked for: 0 of its 1 layers with weights", "--precision fp32",
		},
		"fp32 by its size, TensorRT 8.0": {
			tutorial, fakeBuild{fp32: true}, "fp32 although fp16 was asked for: its plan has 7.812 KiB, the ONNX model in fp32 has 7.812 KiB", "--precision fp32",
		},
		"fp32 from a model that was cast": {
			tensorRT11, fakeBuild{fp32: true}, "fp32 although fp16 was asked for: 0 of its 5", "--precision fp32",
		},
		"fp16 although fp32 was asked for": {exact, fakeBuild{fp16: true}, "the engine is fp16 although fp32 was asked for: 3 of its 5", "--precision fp16"},
		"smallest batch":                   {gpuNGC, shaped("--minShapes", 8), "the engine was built for batches of 8 to 256, best at 64; asked for was 1 to 256, best at 64", "--minShapes"},
		"best batch":                       {gpuNGC, shaped("--optShapes", 1), "the engine was built for batches of 1 to 256, best at 1; asked for was 1 to 256, best at 64", "--optShapes"},
		"largest batch":                    {gpuNGC, shaped("--maxShapes", 128), "the engine was built for batches of 1 to 128, best at 64; asked for was 1 to 256, best at 64", "--maxShapes"},
		"cut":                              {gpuNGC, fakeBuild{cut: true}, "the engine was cut: 1.953 KiB of 3.906 KiB were saved", "--cache-dir"},
		"another TensorRT":                 {gpuNGC, fakeBuild{version: "10.3.0.26"}, "built by TensorRT 10.3.0.26, and the image says that it has 10.9.0.34", "-py3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tt.world(t)
			w.instead(steps.IDBuildEngine, w.trtexec(tt.build))
			f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			if !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) || len(f.Tail) == 0 || f.Repeat == "" {
				t.Errorf("got %q with the hint %q, %d last lines, to repeat by %q; want %q with %q", f, f.Hint, len(f.Tail), f.Repeat, tt.want, tt.hint)
			}
			w.wantNoContainer(t)
		})
	}
}

// shaped is a trtexec that takes an option for shapes of another batch.
func shaped(option string, batch int) fakeBuild {
	return fakeBuild{shapes: map[string]string{option: fmt.Sprintf("%dx3x224x224", batch)}}
}

// exact is a world whose engine is fp32.
func exact(t *testing.T) *world {
	t.Helper()
	w := gpuNGC(t)
	w.target.Precision = "fp32"
	return w
}

// hidden returns the description of layers by a TensorRT that hides the types of tensors with a profile.
func hidden(layers string) string {
	for _, kind := range []string{"Half", "Float"} {
		layers = strings.ReplaceAll(layers, `"Format/Datatype": "`+kind+`"`, `"Format/Datatype": "N/A due to dynamic shapes"`)
	}
	return layers
}

// TestEngineIsProven checks the proof of the precision where trtexec describes layers in other ways, or not at all.
func TestEngineIsProven(t *testing.T) {
	t.Parallel()
	old := strings.NewReplacer(`"Half"`, `"Two wide channel vectorized row major FP16 format"`, `"Float"`, `"Row major linear FP32"`)
	channels := strings.NewReplacer(`"Half"`, `"Channel major FP16 format where channel % 8 == 0"`, `"Float"`, `"Row major linear FP32 format"`)
	tests := map[string]struct {
		world   func(*testing.T) *world
		build   fakeBuild
		by      trtexec.Proof
		summary string
		warns   bool
		outputs int
	}{
		"TensorRT 10":             {gpuNGC, fakeBuild{}, trtexec.ProofTensors, "fp16 in 60.0 % of 5 tensors", false, 1},
		"TensorRT 8 and 9":        {gpuNGC, fakeBuild{layers: old.Replace(layersOf("Half"))}, trtexec.ProofTensors, "fp16 in 60.0 % of 5 tensors", false, 1},
		"channels last":           {gpuNGC, fakeBuild{layers: channels.Replace(layersOf("Half"))}, trtexec.ProofTensors, "fp16 in 60.0 % of 5 tensors", false, 1},
		"types hidden by shapes":  {gpuNGC, fakeBuild{layers: hidden(layersOf("Half"))}, trtexec.ProofWeights, "fp16 in 100.0 % of 1 layers with weights", false, 1},
		"types of most hidden":    {gpuNGC, fakeBuild{layers: strings.ReplaceAll(layersOf("Half"), `"Format/Datatype": "Half"`, `"Format/Datatype": "N/A due to dynamic shapes"`)}, trtexec.ProofWeights, "fp16 in 100.0 % of 1 layers with weights", false, 1},
		"names alone":             {gpuNGC, fakeBuild{layers: `{"Layers": ["conv", "fc"], "Bindings": ["input", "output"]}`}, trtexec.ProofSize, "fp16 by the plan's size", true, 0},
		"no JSON":                 {gpuNGC, fakeBuild{layers: `{"Layers": [{"Scale": -inf}]}`}, trtexec.ProofSize, "fp16 by the plan's size", true, 0},
		"not exported":            {gpuNGC, fakeBuild{layers: "-"}, trtexec.ProofSize, "fp16 by the plan's size, 3.906 KiB for a model of 7.812 KiB", true, 0},
		"TensorRT 8.0":            {tutorial, fakeBuild{}, trtexec.ProofSize, "fp16 by the plan's size, 3.906 KiB for a model of 7.812 KiB, TensorRT 8.0.1.6, batch 1/1/256", false, 0},
		"TensorRT 11, cast":       {tensorRT11, fakeBuild{}, trtexec.ProofTensors, "fp16 in 60.0 % of 5 tensors, TensorRT 11", false, 1},
		"TensorRT 11, no layers":  {tensorRT11, fakeBuild{layers: "-"}, trtexec.ProofSize, "fp16 by the plan's size, 3.906 KiB for a model of 7.812 KiB", true, 0},
		"batch told as a number":  {gpuNGC, fakeBuild{layers: strings.ReplaceAll(layersOf("Half"), "[-1,", "[256,")}, trtexec.ProofTensors, "fp16 in 60.0 %", false, 1},
		"fp32":                    {exact, fakeBuild{}, trtexec.ProofTensors, "fp32 in all of 5 tensors", false, 1},
		"version without a build": {gpuNGC, fakeBuild{version: "10.9.0"}, trtexec.ProofTensors, "TensorRT 10.9.0, batch 1/64/256", false, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tt.world(t)
			w.instead(steps.IDBuildEngine, w.trtexec(tt.build))
			if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			e, _ := resultOf(t, w, result.Engine)
			if e.Precision.By != tt.by || !strings.Contains(e.String(), tt.summary) || w.emitted("did not describe") != tt.warns {
				t.Errorf("proven by %q: %s; warned: %t", e.Precision.By, e, w.emitted("did not describe"))
			}
			if len(e.Inputs) != 1 || e.Inputs[0].Name != "input" || e.Inputs[0].Type != "FP32" || len(e.Outputs) != tt.outputs {
				t.Errorf("the inputs are %+v, the outputs %+v", e.Inputs, e.Outputs)
			}
			if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
				t.Errorf("it cannot be served: %v", err)
			}
		})
	}
}

// TestEngineDoesNotFit checks that no configuration is served with an engine that has other tensors: Triton would be ready with it.
func TestEngineDoesNotFit(t *testing.T) {
	t.Parallel()
	swap := func(old, new string) fakeBuild {
		return fakeBuild{layers: strings.ReplaceAll(layersOf("Half"), old, new)}
	}
	tests := map[string]struct {
		build fakeBuild
		want  string
	}{
		"input name":   {swap(`"input"`, `"data"`), `the input "input" is configured, and the engine has "data"`},
		"input dims":   {swap(`[-1,3,224,224]`, `[-1,3,299,299]`), `the input "input" is configured as FP32[-1 3 224 224], and the engine's is FP32[-1 3 299 299]`},
		"output name":  {swap(`"output"`, `"logits"`), `the output "output" is configured, and the engine has "logits"`},
		"output dims":  {swap(`[-1,1000], "Format/Datatype": "Float"`, `[-1,1001], "Format/Datatype": "Float"`), `the output "output" is configured as FP32[-1 1000], and the engine's is FP32[-1 1001]`},
		"output type":  {swap(`[-1,1000], "Format/Datatype": "Float"`, `[-1,1000], "Format/Datatype": "Half"`), `the engine's is FP16[-1 1000]`},
		"more outputs": {swap(`"Bindings": [`, `"Bindings": ["a", `), "the configuration has 1 output, and the engine 2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.instead(steps.IDBuildEngine, w.trtexec(tt.build))
			f := fault(t, w.run(t, t.Context(), steps.IDAssembleRepository), pipeline.ContainerFailed)
			if !strings.Contains(f.Error(), "the configuration of resnet50_trt does not fit the engine") || !strings.Contains(f.Error(), tt.want) || f.Hint == "" {
				t.Errorf("got %q with the hint %q, want %q", f, f.Hint, tt.want)
			}
		})
	}
}

// TestEngineOfSmallerBatches checks that a stored engine is not served in batches that it does not take.
func TestEngineOfSmallerBatches(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.target.MaxBatch = 128
	w.make(t, steps.IDAssembleRepository)
	w.target.MaxBatch = 256
	f := fault(t, w.run(t, t.Context(), steps.IDAssembleRepository), pipeline.ContainerFailed)
	if !strings.Contains(f.Error(), "max_batch_size is 256, and the engine takes 128 pictures at most") || f.Hint == "" {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
}

// TestEngineWithoutVersion checks that an engine is not lost when trtexec cannot say which TensorRT it names, and that it is told where
// trtexec was asked.
func TestEngineWithoutVersion(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		world func(*testing.T) *world
		warns bool
	}{"TensorRT 10": {gpuNGC, true}, "TensorRT 8.0, which is not asked": {tutorial, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tt.world(t)
			w.instead(steps.IDBuildEngine, w.trtexec(fakeBuild{unread: true}))
			if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			e, _ := resultOf(t, w, result.Engine)
			if want := w.target.Release.TensorRT; e.ReadBack || e.TensorRT != want || w.emitted("it is taken for that of the image, "+want) != tt.warns {
				t.Errorf("the result is %+v; warned: %t", e, w.emitted("it is taken for that of the image"))
			}
		})
	}
}

// TestEngineWasAltered checks that a plan other than the one that was proven is not served.
func TestEngineWasAltered(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	in := w.make(t, steps.IDAssembleRepository)
	plan := in[w.step(steps.IDBuildEngine).Outputs()[0]].Path
	content := read(t, plan)
	content[100] ^= 1
	if err := os.WriteFile(plan, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f := fault(t, w.run(t, t.Context(), steps.IDAssembleRepository), pipeline.ContainerFailed)
	if !strings.Contains(f.Error(), "not the one that was proven") || !strings.Contains(f.Hint, "--force build-engine") {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
}

// TestEngineBuildMixesNoLines checks that a line in two parts, and one beside it on the other stream, are read as they were written.
func TestEngineBuildMixesNoLines(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.make(t, steps.IDBuildEngine)
	build := w.trtexec(fakeBuild{})
	w.instead(steps.IDBuildEngine, func(ctx context.Context, spec container.Spec, out container.Streams) int {
		fmt.Fprint(out.Stdout, "[I] Start parsing ")
		fmt.Fprint(out.Stderr, "a warning of the driver\n")
		fmt.Fprint(out.Stdout, "network model.\r\n")
		_, _ = out.Stdout.Write(bytes.Repeat([]byte("#"), 100<<10))
		fmt.Fprintln(out.Stdout)
		return build(ctx, spec, out)
	})
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(w.progress(), "parsing the model") || !slices.Contains(w.progress(), "engine built in 1.5 s") {
		t.Errorf("progress %q", w.progress())
	}
}

// TestEngineOfAnotherGPU checks that an engine is kept only if trtexec selected a requested GPU, and that its proof is
// reported. What is a requested GPU is decided by internal/trtexec.
func TestEngineOfAnotherGPU(t *testing.T) {
	t.Parallel()
	const (
		name  = "[I] Selected Device: NVIDIA H100 80GB HBM3\n[I] Selected Device ID: 0\n"
		a, b  = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
		mig   = "MIG-11111111-0000-0000-0000-000000000000"
		isA   = name + "[I] Selected Device UUID: " + a
		isMIG = "[I] Selected Device: NVIDIA H100 80GB HBM3 MIG 1g.10gb\n[I] Selected Device UUID: GPU-11111111-0000-0000-0000-000000000000"
	)
	tests := map[string]struct {
		says  string
		uuids []string
		model string // in place of the H100
		proof trtexec.GPUProof
		wrong string // what trtexec took
	}{
		"asked for":             {says: isA, uuids: []string{a}, proof: trtexec.ProofUUID},
		"another of the model":  {says: isA, uuids: []string{b}, wrong: "NVIDIA H100 80GB HBM3, " + a},
		"another model":         {says: "[I] Selected Device: NVIDIA L4\n[I] Selected Device UUID: " + a, uuids: []string{a}, wrong: "NVIDIA L4, " + a},
		"no UUID":               {says: name, uuids: []string{a}, proof: trtexec.ProofName},
		"nothing is known":      {says: isA, model: "-"},
		"MIG, its UUID":         {says: isMIG, uuids: []string{mig}, model: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", proof: trtexec.ProofUUID},
		"neither says anything": {says: "-", model: "-"},
	}
	for test, tt := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.GPUs, w.target.GPUUUIDs = container.GPUs{Devices: []string{"0"}}, tt.uuids
			switch tt.model {
			case "":
			case "-":
				w.target.Device.Name, w.target.Device.Location = "", "GPU 0 at tcp://far:2375"
			default:
				w.target.Device.Name = tt.model
			}
			w.instead(steps.IDBuildEngine, w.trtexec(fakeBuild{gpu: tt.says}))
			err := w.run(t, t.Context(), steps.IDBuildEngine)
			if tt.wrong != "" {
				f := fault(t, err, pipeline.Environment)
				for _, want := range []string{`another GPU than was asked for: --gpus "device=0" is`, strings.Join(tt.uuids, ", "), "and trtexec took " + tt.wrong} {
					if !strings.Contains(f.Error(), want) {
						t.Errorf("got %q, which lacks %q", f, want)
					}
				}
				if !strings.Contains(f.Hint, "--gpus device=UUID") || len(f.Tail) == 0 || f.Repeat == "" {
					t.Errorf("hint %q, repeat %q, output %q", f.Hint, f.Repeat, f.Tail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e, _ := resultOf(t, w, result.Engine)
			if e.GPUBy != tt.proof || e.GPU == "" || e.GPUUUID == "" != !strings.Contains(tt.says, "UUID") || w.emitted("it is not proven that the engine was built on a GPU that was asked for: trtexec ") != (tt.proof == "") {
				t.Errorf("%+v; payloads: %v", e, w.payloads)
			}
			if tt.proof == "" && len(e.Doubts) == 0 {
				t.Error("the engine carries no doubt")
			}
			// A run that uses the stored engine reports the same.
			var made []pipeline.Payload
			for _, p := range w.payloads {
				switch p := p.(type) {
				case pipeline.Warning:
					if slices.Contains(e.Doubts, p.Text) {
						made = append(made, p)
					}
				case pipeline.Result:
					if p.Name == string(result.Engine) {
						made = append(made, p)
					}
				}
			}
			r, ok := w.step(steps.IDBuildEngine).(pipeline.Reminder)
			if !ok {
				t.Fatal("build-engine says nothing of a stored engine")
			}
			stored := pipeline.Values{}
			for output, value := range w.values {
				if output.Step == steps.IDBuildEngine {
					stored[output.Name] = value
				}
			}
			if diff := cmp.Diff(made, r.Remind(stored)); diff != "" {
				t.Errorf("reports of a stored engine (-made +stored):\n%s", diff)
			}
			if payloads := r.Remind(pipeline.Values{}); payloads != nil {
				t.Errorf("of an engine that cannot be read: %v", payloads)
			}
		})
	}
}

// TestEngineOfAnUnknownGPU checks that an engine is not kept if trtexec does not print its GPU, although model or UUID of
// the requested one are known.
func TestEngineOfAnUnknownGPU(t *testing.T) {
	t.Parallel()
	for test, unknown := range map[string]func(*target.Target){
		"model and UUID are known": func(*target.Target) {},
		"the model is known":       func(o *target.Target) { o.GPUUUIDs = nil },
		"the UUID is known":        func(o *target.Target) { o.Device.Name, o.Device.Location = "", "GPU-aaaaaaaa at tcp://far:2375" },
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.GPUs, w.target.GPUUUIDs = container.GPUs{Devices: []string{"0"}}, []string{"GPU-aaaaaaaa-0000-0000-0000-000000000000"}
			unknown(&w.target)
			w.instead(steps.IDBuildEngine, w.trtexec(fakeBuild{gpu: "-"}))
			f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			want := `trtexec did not say which GPU it took, so that the engine may be for another than --gpus "device=0"`
			if f.Error() != want || !strings.Contains(f.Hint, "Selected Device") || len(f.Tail) == 0 || f.Repeat == "" {
				t.Errorf("got %q, hint %q, repeat %q, output %q", f, f.Hint, f.Repeat, f.Tail)
			}
		})
	}
}
