//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

//nolint:paralleltest // the methods are parallel
func TestGPULane(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("e2e", l.testE2E)
	t.Run("files owned by the user", l.testOrdinaryUser)
	t.Run("tutorial", l.testTutorial)
	t.Run("fp16 without TensorRT's flag", l.testTensorRT11)
	t.Run("another-engine", l.testAnotherEngine)
	t.Run("timing-cache", l.testTimingCache)
	t.Run("GPU out of memory", l.testGPUMemory)
	t.Run("cpu", l.testNGCOnCPU)
	t.Run("no-gpu", l.testNoGPU)
	t.Run("no-image", l.testNoImage)
	t.Run("step-fails", l.testStepFails)
	t.Run("not-ready", l.testNotReady)
	t.Run("wrong-answer", l.testWrongAnswer)
	t.Run("record of a wrong mean", l.testRecord)
}

// every is each step of the GPU lane in one state, with a TensorRT that casts.
func every(state pipeline.EndState) map[pipeline.ID]pipeline.EndState {
	all := map[pipeline.ID]pipeline.EndState{}
	for _, s := range steps.For(target.Target{Lane: target.GPU, Source: target.NGC}, steps.Tools{}, steps.IDVerify) {
		all[s.ID()] = state
	}
	return all
}

// trtexecArgs are the arguments of a build by TensorRT 10.
func trtexecArgs(optBatch int) []string {
	return []string{
		"/usr/src/tensorrt/bin/trtexec", "--onnx=/in/model.onnx", "--saveEngine=/out/model.plan",
		"--minShapes=input:1x3x224x224", fmt.Sprintf("--optShapes=input:%dx3x224x224", optBatch), "--maxShapes=input:256x3x224x224",
		"--fp16", "--skipInference", "--timingCacheFile=/out/timing.cache", "--profilingVerbosity=detailed", "--exportLayerInfo=/out/layers.json",
	}
}

// The lines of a build's log by which it is known what it began with.
const (
	coldBuild = "Could not read timing cache from: /out/timing.cache"
	warmBuild = "bytes of timing cache from /out/timing.cache"
)

// checkBuild checks what a build of an engine was told to be.
func (o outcome) checkBuild(t *testing.T, timing string, says ...string) {
	t.Helper()
	log := o.log(t, steps.IDBuildEngine)
	for _, want := range append(says, timing) {
		if !strings.Contains(log, want) {
			t.Errorf("the log of %s does not say %q:\n%s", steps.IDBuildEngine, want, log)
		}
	}
}

// withoutPools returns tritonserver's arguments without the sizes of its pools, which differ with the host's cores.
func withoutPools(t *testing.T, args []string) []string {
	t.Helper()
	isPool := func(arg string) bool { return strings.Contains(arg, "-memory-pool-byte-size=") }
	if !slices.ContainsFunc(args, isPool) {
		t.Errorf("the arguments %q size no pool", args)
	}
	return slices.DeleteFunc(slices.Clone(args), isPool)
}

// serializeDALI are the arguments of the program that serializes for the GPU.
func serializeDALI() []string {
	return []string{
		"/usr/bin/python3", "/dalirun/python/serialize_dali.py", "--size", "224", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225",
		"--device", "gpu", "--max-batch", "256", "--threads", "4", "--output", "/out/model.dali",
		"--hw-decoder-load", "0.9", "--picture-size", "600x400",
	}
}

func (l lane) testE2E(t *testing.T) {
	t.Parallel()
	o := l.opts(t)
	first, r := l.e2e(t, o, 0, flags(stubRegistry, "25.03")...)
	want := every(pipeline.Done)
	want[steps.IDExporterImage], want[steps.IDServerImage] = pipeline.Cached, pipeline.Cached // they are there
	if diff := cmp.Diff(want, first.states()); diff != "" {
		t.Errorf("the steps of a first run (-want +got):\n%s\n%s", diff, r.Stderr)
	}
	if first.Verdict != report.Passed || first.Lane != "gpu" || first.ImageSource != "ngc" || first.Release != "25.03" || first.Weights != "random:0" {
		t.Errorf("it is stamped %s, %s, %s, %s, %s", first.Verdict, first.Lane, first.ImageSource, first.Release, first.Weights)
	}
	if len(first.Top) != 5 || first.Top[0].Label == "" {
		t.Errorf("the classes are %+v, want 5 with labels", first.Top)
	}
	if c := first.Parity.Comparisons; len(c) != 3 || c[0].Figures.MeanAbs < 0.0047 || c[0].Figures.MeanAbs > 0.0049 || c[1].Figures.MaxRel == 0 {
		t.Errorf("the figures are not those of the stubs, whose DALI is off by 0.0048: %+v", c)
	}
	first.checkSandboxes(t, os.Getuid(), os.Getgid())
	if diff := cmp.Diff(trtexecArgs(64), first.record(t, steps.IDBuildEngine).Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(serializeDALI(), first.record(t, steps.IDSerializeDALI).Args); diff != "" {
		t.Errorf("the arguments that serialize DALI (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/opt/tritonserver/bin/tritonserver", "--model-repository=/models", "--model-control-mode=explicit"},
		withoutPools(t, first.record(t, steps.IDServe).Args)); diff != "" {
		t.Errorf("tritonserver's arguments (-want +got):\n%s", diff)
	}

	first.checkBuild(t, coldBuild, "Plan was created with TensorRT version 10.9.0.34",
		"engine: fp16 in 99.4 % of 322 tensors, TensorRT 10.9.0.34, batch 1/64/256, 19.53 KiB")

	second, r := l.e2e(t, o, 0, flags(stubRegistry, "25.03")...)
	want = every(pipeline.Cached)
	want[steps.IDServe], want[steps.IDVerify] = pipeline.Done, pipeline.Done
	if diff := cmp.Diff(want, second.states()); diff != "" {
		t.Errorf("the steps of a second run (-want +got):\n%s\n%s", diff, r.Stderr)
	}
	l.checkOptBatch(t, o)
}

// checkOptBatch goes on where a run with the usual batch has ended.
func (l lane) checkOptBatch(t *testing.T, o opts) {
	t.Helper()
	args := flags(stubRegistry, "25.03", "--opt-batch", "128", "--gpus", "device=0")
	plan := mustRun(t, 0, l.engine, o, append([]string{"plan"}, args...)...).Stdout
	for id, verdict := range map[pipeline.ID]string{
		steps.IDExportONNX:         "cached",
		steps.IDSerializeDALI:      "cached",
		steps.IDBuildEngine:        "will run, because opt-batch: 64 → 128",
		steps.IDAssembleRepository: "depends on build-engine",
		steps.IDReference:          "cached",
	} {
		i := slices.IndexFunc(strings.Split(plan, "\n"), func(line string) bool {
			return strings.HasPrefix(line, string(id)+" ") && strings.Contains(line, verdict)
		})
		if i < 0 {
			t.Errorf("%s is not %q in the plan:\n%s", id, verdict, plan)
		}
	}
	third, r := l.e2e(t, o, 0, args...)
	want := every(pipeline.Cached)
	for _, id := range []pipeline.ID{steps.IDBuildEngine, steps.IDAssembleRepository, steps.IDServe, steps.IDVerify} {
		want[id] = pipeline.Done
	}
	if diff := cmp.Diff(want, third.states()); diff != "" {
		t.Errorf("the steps of a run with another batch (-want +got):\n%s\n%s", diff, r.Stderr)
	}
	build := third.record(t, steps.IDBuildEngine)
	if diff := cmp.Diff(trtexecArgs(128), build.Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	if got := build.Env["NVIDIA_VISIBLE_DEVICES"]; got != "0" {
		t.Errorf("--gpus device=0 gave it the GPUs %q", got)
	}
	third.checkBuild(t, warmBuild, "batch 1/128/256")
}

func (l lane) testOrdinaryUser(t *testing.T) {
	t.Parallel()
	u := ordinary(t, l.engine)
	dir := filepath.Join(u.folder(t), "Bücher und Bilder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, u.UID, u.GID); err != nil {
		t.Fatal(err)
	}
	o := opts{Dir: dir, Path: []string{l.smi}, User: &u}
	out, _ := l.e2e(t, o, 0, flags(stubRegistry, "25.03")...)
	out.checkSandboxes(t, u.UID, u.GID)
	if found := u.foreign(t, dir); len(found) > 0 {
		t.Errorf("not the user's own: %s", strings.Join(found, ", "))
	}
	if _, err := os.Stat(filepath.Join(dir, ".cache", "dalirun", "entries")); err != nil {
		t.Errorf("the cache is not where it was looked for: %v", err)
	}
}

func (l lane) testTutorial(t *testing.T) {
	t.Parallel()
	l.stubs.pytorch(t, pytorchRef(stubRegistry, "21.07"), pytorch2107...)
	l.stubs.triton(t, tritonRef(stubRegistry, "21.07"), triton2107...)
	out, _ := l.e2e(t, l.opts(t), 0, flags(stubRegistry, "21.07", "--opt-batch", "1")...)
	build := out.record(t, steps.IDBuildEngine)
	if diff := cmp.Diff([]string{
		"/opt/tensorrt/bin/trtexec", "--onnx=/in/model.onnx", "--saveEngine=/out/model.plan",
		"--minShapes=input:1x3x224x224", "--optShapes=input:1x3x224x224", "--maxShapes=input:256x3x224x224",
		"--explicitBatch", "--fp16", "--buildOnly", "--timingCacheFile=/out/timing.cache",
	}, build.Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	out.checkBuild(t, coldBuild, "engine: fp16 by the plan's size, 19.53 KiB for a model of 39.06 KiB, TensorRT 8.0.1.6, batch 1/1/256")
	for id, variable := range map[pipeline.ID]string{
		steps.IDBuildEngine:   "NVIDIA_PYTORCH_VERSION",
		steps.IDSerializeDALI: "NVIDIA_PYTORCH_VERSION",
		steps.IDServe:         "NVIDIA_TRITON_SERVER_VERSION",
	} {
		if got := out.record(t, id).Env[variable]; got != "21.07" {
			t.Errorf("%s ran in an image with %s=%q", id, variable, got)
		}
	}
}

func (l lane) testTensorRT11(t *testing.T) {
	t.Parallel()
	l.stubs.pytorch(t, pytorchRef(stubRegistry, "26.06"), pytorch2606...)
	l.stubs.triton(t, tritonRef(stubRegistry, "26.06"), triton2606...)
	o := l.opts(t)
	out, _ := l.e2e(t, o, 0, flags(stubRegistry, "26.06")...)
	want := every(pipeline.Done)
	want[steps.IDCastONNX] = pipeline.Done
	want[steps.IDExporterImage], want[steps.IDServerImage] = pipeline.Cached, pipeline.Cached
	if diff := cmp.Diff(want, out.states()); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
	cast := out.record(t, steps.IDCastONNX)
	if diff := cmp.Diff([]string{"/usr/bin/python3", "/dalirun/python/cast_onnx.py", "--model", "/in/model.onnx", "--output", "/out/model.onnx"}, cast.Args); diff != "" {
		t.Errorf("the arguments of the cast (-want +got):\n%s", diff)
	}
	if cast.Env["NVIDIA_PYTORCH_VERSION"] != "26.06" || cast.Env["NVIDIA_VISIBLE_DEVICES"] != "" {
		t.Errorf("the cast ran in another image, or with a GPU: %v", cast.Env)
	}
	if args := out.record(t, steps.IDBuildEngine).Args; slices.Contains(args, "--fp16") {
		t.Errorf("trtexec was asked for fp16, which it has not: %v", args)
	}
	out.checkBuild(t, coldBuild, "engine: fp16 in 99.4 % of 322 tensors, TensorRT 11.0.0.114")

	// In fp32 nothing is cast.
	exact, _ := l.e2e(t, o, 0, flags(stubRegistry, "26.06", "--precision", "fp32")...)
	if _, cast := exact.states()[steps.IDCastONNX]; cast || !slices.Contains(exact.record(t, steps.IDBuildEngine).Args, "--noTF32") {
		t.Errorf("in fp32 the steps are %v", exact.states())
	}
	exact.checkBuild(t, warmBuild, "engine: fp32 in all of 324 tensors")

	registry := stubRegistry + "/no-modelopt"
	l.stubs.pytorch(t, pytorchRef(registry, "26.06"), append(slices.Clone(pytorch2606), "STUB_FAIL=no-modelopt")...)
	l.stubs.tag(t, tritonRef(stubRegistry, "26.06"), tritonRef(registry, "26.06"))
	failed, r := l.e2e(t, l.opts(t), 4, flags(registry, "26.06")...)
	r.says(t, "cast-onnx failed after", "this image cannot cast to fp16", "--precision fp32")
	if log := failed.log(t, steps.IDBuildEngine); log != "" {
		t.Errorf("a build was begun:\n%s", log)
	}
}

// testAnotherEngine has a trtexec that ends well with another engine than was asked for: it is found before anything is served.
func (l lane) testAnotherEngine(t *testing.T) {
	t.Parallel()
	for fail, says := range map[string][]string{
		"silent-fp32": {"the engine is fp32 although fp16 was asked for: 0 of its 324 tensors are half precision", "--precision fp32"},
		"cut-plan":    {"the engine was cut: 9.766 KiB of 19.53 KiB were saved", "--cache-dir"},
	} {
		t.Run(fail, func(t *testing.T) {
			t.Parallel()
			o := l.opts(t)
			args := flags(l.variant(t, fail), "25.03", "--cache-dir", l.cache)
			for range 2 { // a refused engine is not kept
				out, r := l.e2e(t, o, 4, args...)
				r.says(t, append(says, "build-engine failed after", "full log: ")...)
				states := out.states()
				if states[steps.IDBuildEngine] != pipeline.Failed || states[steps.IDServe] != pipeline.Skipped {
					t.Errorf("the steps ended as %v", states)
				}
			}
		})
	}
}

// testTimingCache has a trtexec of another TensorRT than its image says. What that measured is not kept: the next TensorRT would refuse it.
func (l lane) testTimingCache(t *testing.T) {
	t.Parallel()
	o := l.opts(t)
	for range 2 {
		out, r := l.e2e(t, o, 4, flags(l.variant(t, "other-tensorrt"), "25.03")...)
		r.says(t, "the engine was built by TensorRT 10.3.0.26, and the image says that it has 10.9.0.34", "-py3", "build-engine failed after")
		out.checkBuild(t, coldBuild)
	}
	good, _ := l.e2e(t, o, 0, flags(stubRegistry, "25.03")...)
	good.checkBuild(t, coldBuild)
	again, _ := l.e2e(t, o, 0, flags(stubRegistry, "25.03", "--opt-batch", "8")...)
	again.checkBuild(t, warmBuild)
}

// testGPUMemory has a GPU with little free memory: nothing is built that it has no room for.
func (l lane) testGPUMemory(t *testing.T) {
	t.Parallel()
	o := l.opts(t)
	o.Path = []string{nvidiaSMI(t)}
	query := filepath.Join(o.Path[0], "nvidia-smi-query.csv")
	text, err := os.ReadFile(query)
	if err != nil {
		t.Fatal(err)
	}
	little := strings.Replace(string(text), " 81559, 81079,", " 81559, 2500,", 1)
	if err := os.WriteFile(query, []byte(little), 0o644); err != nil || little == string(text) {
		t.Fatalf("the GPU's memory is not where it was looked for: %v\n%s", err, text)
	}
	out, r := l.e2e(t, o, 3, flags(stubRegistry, "25.03", "--cache-dir", l.cache)...)
	r.says(t, "2.441 GiB of 79.65 GiB are free, and an engine for batches of up to 256 needs 2.757 GiB at least", "use --max-batch 98, which fits")
	if log := out.log(t, steps.IDBuildEngine); log != "" {
		t.Errorf("a build was begun:\n%s", log)
	}
	if _, r := l.e2e(t, o, 0, flags(stubRegistry, "25.03", "--cache-dir", l.cache, "--max-batch", "98")...); strings.Contains(r.Stderr, "are free") {
		t.Errorf("what was suggested is refused:\n%s", r.Stderr)
	}
}

// testNGCOnCPU runs NVIDIA's images without GPUs.
func (l lane) testNGCOnCPU(t *testing.T) {
	t.Parallel()
	out, _ := l.e2e(t, l.opts(t), 0, "--accel", "cpu", "--images", "ngc", "--registry", stubRegistry, "--release", "25.03", "--weights", "random:0")
	for _, id := range []pipeline.ID{steps.IDWeights, steps.IDExportONNX, steps.IDReference, steps.IDSerializeDALI, steps.IDServe} {
		if got := out.record(t, id).Env["NVIDIA_VISIBLE_DEVICES"]; got != "" {
			t.Errorf("%s was given the GPUs %q", id, got)
		}
	}
	if c := out.Parity.Comparisons; len(c) != 3 || c[0].Figures.MaxAbs != 0 || c[1].Figures.MaxAbs != 0 || c[2].Figures.MaxAbs != 0 {
		t.Errorf("the stubs are exact on a CPU, but the figures are %+v", c)
	}
}
