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
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

//nolint:paralleltest // the methods are parallel
func TestGPULane(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("e2e", l.testE2E)
	t.Run("user", l.testOrdinaryUser)
	t.Run("tutorial", l.testTutorial)
	t.Run("tensorrt-11", l.testTensorRT11)
	t.Run("cpu", l.testNGCOnCPU)
	t.Run("no-gpu", l.testNoGPU)
	t.Run("no-image", l.testNoImage)
	t.Run("step-fails", l.testStepFails)
	t.Run("not-ready", l.testNotReady)
	t.Run("wrong-answer", l.testWrongAnswer)
}

// every is each step of the GPU lane in one state.
func every(state pipeline.EndState) map[pipeline.ID]pipeline.EndState {
	all := map[pipeline.ID]pipeline.EndState{}
	for _, s := range steps.For(steps.Options{Lane: steps.GPU, Images: steps.NGC}, steps.Machine{}, steps.IDVerify) {
		all[s.ID()] = state
	}
	return all
}

// trtexec are the arguments of a build by TensorRT 10.
func trtexec(optBatch int) []string {
	return []string{
		"/usr/src/tensorrt/bin/trtexec", "--onnx=/in/model.onnx", "--saveEngine=/out/model.plan",
		"--minShapes=input:1x3x224x224", fmt.Sprintf("--optShapes=input:%dx3x224x224", optBatch), "--maxShapes=input:256x3x224x224",
		"--fp16", "--skipInference",
	}
}

// serializeDALI are the arguments of the program that serializes for the GPU.
func serializeDALI() []string {
	return []string{"/usr/bin/python3", "/dalirun/python/serialize_dali.py", "--device", "gpu", "--max-batch", "256", "--threads", "4", "--output", "/out/model.dali"}
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
	if diff := cmp.Diff(trtexec(64), first.record(t, steps.IDBuildEngine).Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(serializeDALI(), first.record(t, steps.IDSerializeDALI).Args); diff != "" {
		t.Errorf("the arguments that serialize DALI (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/opt/tritonserver/bin/tritonserver", "--model-repository=/models", "--model-control-mode=explicit"},
		first.record(t, steps.IDServe).Args); diff != "" {
		t.Errorf("tritonserver's arguments (-want +got):\n%s", diff)
	}

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
		steps.IDBuildEngine:        "will run, because argv changed",
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
	if !strings.Contains(plan, "input:64x3x224x224") || !strings.Contains(plan, "input:128x3x224x224") {
		t.Errorf("the plan does not name both shapes:\n%s", plan)
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
	if diff := cmp.Diff(trtexec(128), build.Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	if got := build.Env["NVIDIA_VISIBLE_DEVICES"]; got != "0" {
		t.Errorf("--gpus device=0 gave it the GPUs %q", got)
	}
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
		"--explicitBatch", "--fp16", "--buildOnly",
	}, build.Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
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
	out, r := l.e2e(t, l.opts(t), 3, flags(stubRegistry, "26.06")...)
	for _, want := range []string{"TensorRT 11.0", "cast to fp16", "--release"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("the error does not say %q:\n%s", want, r.Stderr)
		}
	}
	if log := out.log(t, steps.IDBuildEngine); log != "" {
		t.Errorf("a build was begun:\n%s", log)
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
