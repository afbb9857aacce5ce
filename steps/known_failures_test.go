package steps_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// specOf returns the spec of the container that the step id runs.
func specOf(t *testing.T, all []container.Spec, id pipeline.ID) container.Spec {
	t.Helper()
	i := slices.IndexFunc(all, func(s container.Spec) bool { return s.Step == string(id) })
	if i < 0 {
		t.Fatalf("%s runs no container", id)
	}
	return all[i]
}

func TestEngineFactsOfAnotherGPU(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	before := w.facts(t, steps.IDBuildEngine)
	for name, device := range map[string]target.Device{
		"model":              {Name: "NVIDIA A100-SXM4-80GB", Compute: h100.Compute, Driver: h100.Driver},
		"compute capability": {Name: h100.Name, Compute: "8.0", Driver: h100.Driver},
		"driver":             {Name: h100.Name, Compute: h100.Compute, Driver: "590.48.01"},
	} {
		w.target.Device = device
		after := w.facts(t, steps.IDBuildEngine)
		if fmt.Sprint(before) == fmt.Sprint(after) {
			t.Errorf("with another %s the engine is taken for the same: %v", name, after)
		}
	}
}

func TestEngineOfAnotherTensorRT(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	all := specs(t, w)
	if build, serve := specOf(t, all, steps.IDBuildEngine), specOf(t, all, steps.IDServe); build.Image != serve.Image {
		t.Errorf("the engine is built in %s and served by %s", build.Image, serve.Image)
	}
	for _, r := range release.All() {
		if r.EngineIn != release.ServerImage && r.Tag != "21.07" { // the tutorial's, whose two images have the same TensorRT
			t.Errorf("%s builds the engine in the %s image", r.Tag, r.EngineIn)
		}
	}
	if version := w.facts(t, steps.IDBuildEngine)["tensorrt"]; !strings.HasPrefix(version, "10.9.0") {
		t.Errorf("the fact tensorrt of an engine is %q", version)
	}
}

func TestDALIOlderThanPipeline(t *testing.T) {
	t.Parallel()
	all := specs(t, gpuNGC(t))
	if serialize, serve := specOf(t, all, steps.IDSerializeDALI), specOf(t, all, steps.IDServe); serialize.Image != serve.Image {
		t.Errorf("DALI is serialized in %s and served by %s", serialize.Image, serve.Image)
	}
}

func TestServerWithoutDALI(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]release.Where{
		"21.07": release.ExporterImage, "22.06": release.ExporterImage, "24.04": release.ExporterImage, // their servers have none
		"22.07": release.ServerImage, "24.03": release.ServerImage, "24.05": release.ServerImage, "25.03": release.ServerImage,
	} {
		if r := find(t, tag); r.DALIIn != want || r.DALIInterpreter == "" {
			t.Errorf("%s serializes in the %s image by %q, want the %s image", tag, r.DALIIn, r.DALIInterpreter, want)
		}
	}
}

// trtexecOf returns the default arguments of trtexec for a version of TensorRT.
func trtexecOf(t *testing.T, version string, cast bool) []string {
	t.Helper()
	v, err := release.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	args, err := trtexec.Args(v, trtexec.Build{
		ONNX: "/in/model.onnx", Plan: "/out/model.plan", Input: "input", Size: 224, MinBatch: 1, OptBatch: 64, MaxBatch: 256,
		Precision: release.FP16, Cast: cast,
	})
	if err != nil {
		t.Fatal(err)
	}
	return args
}

func TestOptionsDroppedByTensorRT10(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"10.0.1", "10.9.0", "10.16.0", "11.1.0"} {
		for _, arg := range trtexecOf(t, version, strings.HasPrefix(version, "11")) {
			for _, dropped := range []string{"--explicitBatch", "--workspace", "--buildOnly", "--maxBatch", "--batch"} {
				if arg == dropped || strings.HasPrefix(arg, dropped+"=") {
					t.Errorf("trtexec %s is given %s", version, arg)
				}
			}
		}
	}
	if args := trtexecOf(t, "8.0.1", false); !slices.Contains(args, "--explicitBatch") || !slices.Contains(args, "--buildOnly") {
		t.Errorf("trtexec 8.0.1 is given %v", args)
	}
}

func TestFP16DroppedByTensorRT11(t *testing.T) {
	t.Parallel()
	if args := trtexecOf(t, "11.0.0", true); slices.Contains(args, "--fp16") {
		t.Errorf("trtexec 11 is given %v", args)
	}
	if args := trtexecOf(t, "10.16.0", false); !slices.Contains(args, "--fp16") {
		t.Errorf("trtexec 10.16 is not asked for fp16: %v", args)
	}
	v, err := release.ParseVersion("11.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if args, err := trtexec.Args(v, trtexec.Build{
		ONNX: "m", Plan: "p", Input: "input", Size: 224, MinBatch: 1, OptBatch: 1, MaxBatch: 1, Precision: release.FP16,
	}); err == nil {
		t.Errorf("an engine in fp32 would be built as fp16: %v", args)
	}
}

func TestFailureReportedAsSuccess(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]containertest.Program{
		"exit 0 without an engine": prints(0, "&&&& PASSED TensorRT.trtexec"),
		"exit 1":                   prints(1, "&&&& FAILED TensorRT.trtexec"),
	} {
		w := gpuNGC(t)
		w.instead(steps.IDBuildEngine, program)
		if err := w.run(t, t.Context(), steps.IDBuildEngine); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestPictureNotDownloaded(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		w.target.Picture = target.Picture{Data: coffee()} // as it is embedded
		if err := w.run(t, t.Context(), steps.IDReference); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		spec := specOf(t, specs(t, w), steps.IDReference)
		if i := slices.IndexFunc(spec.Inputs, func(m container.Mount) bool { return strings.HasPrefix(m.Target, "/dalirun/picture") }); i < 0 || spec.Network != container.NetworkNone {
			t.Errorf("%s: the picture is got from %+v, with the network %q", name, spec.Inputs, spec.Network)
		}
	}
}

func TestVersionFolders(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
			t.Fatal(err)
		}
		root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
		if folders, err := filepath.Glob(filepath.Join(root, "*", "1")); err != nil || len(folders) != 3 {
			t.Errorf("%s: the version folders are %v, %v", name, folders, err)
		}
	}
}

func TestPlanFolder(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.instead(steps.IDBuildEngine, func(_ context.Context, spec container.Spec, _ container.Streams) int {
		folder, writable, err := containertest.HostPath(spec, "/out")
		if err != nil || !writable || !filepath.IsAbs(folder) {
			t.Errorf("trtexec writes to %q, writable %t, %v", folder, writable, err)
		}
		if i := slices.Index(spec.Command, "--saveEngine=/out/model.plan"); i < 0 {
			t.Errorf("trtexec is called as %v", spec.Command)
		}
		return 1
	})
	wantFault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
}

func TestDriverTooOld(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "470.239.06", Compute: []string{"8.6"}}
	reasons := find(t, "25.03").Check(h)
	if len(reasons) == 0 || reasons[0].Kind != release.DriverTooOld || !strings.Contains(reasons[0].Text, "470.239.06") {
		t.Errorf("what speaks against 25.03 is %+v", reasons)
	}
	if newest, _ := release.Newest(h); newest.Tag != "22.11" { // CUDA 12 needs 525, and the TensorRT of 22.12 is not confirmed
		t.Errorf("%s is taken for a host with driver 470", newest.Tag)
	}
}

func TestGPUTooOld(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "580.159.04", Compute: []string{"6.1"}}
	if reasons := find(t, "25.03").Check(h); len(reasons) == 0 || reasons[0].Kind != release.ComputeTooLow {
		t.Errorf("what speaks against 25.03 is %+v", reasons)
	}
	if newest, _ := release.Newest(h); newest.Tag != "24.02" { // TensorRT 10 needs 7.0, and the TensorRT of 24.03 and 24.04 is not confirmed
		t.Errorf("%s is taken for a GPU of compute capability 6.1", newest.Tag)
	}
}

func TestUnlikeGPUs(t *testing.T) {
	t.Parallel()
	gpus := host.GPUs{Driver: "580.159.04", Devices: []host.GPU{
		{Index: 0, UUID: "GPU-aaaaaaaa-0000-0000-0000-000000000000", Name: "NVIDIA A100-SXM4-80GB", Compute: "8.0"},
		{Index: 1, UUID: "GPU-bbbbbbbb-0000-0000-0000-000000000000", Name: "NVIDIA L4", Compute: "8.9"},
	}}
	if chosen, err := gpus.Select(container.GPUs{Count: container.AllGPUs}); err == nil || !strings.Contains(err.Error(), "NVIDIA L4") {
		t.Errorf("unlike GPUs are taken together: %v, %v", chosen, err)
	}
	second := container.GPUs{Devices: []string{"GPU-bbbbbbbb"}}
	if chosen, err := gpus.Select(second); err != nil || len(chosen) != 1 || chosen[0].Index != 1 {
		t.Errorf("one by its UUID is %v, %v", chosen, err)
	}
	w := gpuNGC(t)
	w.target.GPUs = second
	all := specs(t, w)
	for _, id := range []pipeline.ID{steps.IDBuildEngine, steps.IDServe} {
		if got := specOf(t, all, id).GPUs; !cmp.Equal(got, second) {
			t.Errorf("%s gets the GPUs %q", id, got)
		}
	}
}

// TestNVMLOnWSL2 checks how WSL 2 is detected; TestWithoutNVML checks what DALI gets there.
func TestNVMLOnWSL2(t *testing.T) {
	t.Parallel()
	if !host.WSL("Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host)") || host.WSL("Linux version 6.8.0-45-generic (buildd@lcy02-amd64-115)") {
		t.Error("WSL 2 is not told from Ubuntu")
	}
}

func TestDALIWithoutGPU(t *testing.T) {
	t.Parallel()
	all := specs(t, cpuNGC(t))
	command := specOf(t, all, steps.IDSerializeDALI).Command
	if i := slices.Index(command, "--device"); i < 0 || command[i+1] != "cpu" {
		t.Errorf("DALI is serialized by %v", command)
	}
	for _, spec := range all {
		if !spec.GPUs.IsZero() {
			t.Errorf("%s asks for the GPUs %s", spec.Step, spec.GPUs)
		}
	}
}

func TestTensorRTWithoutGPU(t *testing.T) {
	t.Parallel()
	w := cpuNGC(t)
	if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
		t.Fatal(err)
	}
	root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
	config := string(read(t, filepath.Join(root, "resnet50_onnx", "config.pbtxt")))
	if !strings.Contains(config, "onnxruntime") || !strings.Contains(config, "KIND_CPU") {
		t.Errorf("the CPU lane serves\n%s", config)
	}
}

func TestServerEntrypoint(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		if got := specOf(t, specs(t, newWorld(t)), steps.IDServe).Command[0]; got != "tritonserver" {
			t.Errorf("%s: the entrypoint is given %s to run", name, got)
		}
	}
}

func TestMaxBatchOutOfMemory(t *testing.T) {
	t.Parallel()
	all := specs(t, smallBatches(t))
	build, serialize := specOf(t, all, steps.IDBuildEngine), specOf(t, all, steps.IDSerializeDALI)
	if !slices.Contains(build.Command, "--maxShapes=input:8x3x224x224") || !strings.Contains(strings.Join(serialize.Command, " "), "--max-batch 8") {
		t.Errorf("with --max-batch 8 they are %v and %v", build.Command, serialize.Command)
	}
}

func TestEngineOfOtherShape(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.instead(steps.IDBuildEngine, w.trtexec(fakeBuild{layers: strings.ReplaceAll(layersOf("Half"), "[-1,3,224,224]", "[-1,3,299,299]")}))
	f := fault(t, w.run(t, t.Context(), steps.IDAssembleRepository), pipeline.ContainerFailed)
	if !strings.Contains(f.Error(), "configured as FP32[-1 3 224 224], and the engine's is FP32[-1 3 299 299]") || f.Hint == "" {
		t.Errorf("an engine of other dimensions than the configuration's is told as %q, with the hint %q", f, f.Hint)
	}
}

func TestConfigurationShape(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
		t.Fatal(err)
	}
	root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
	config := strings.Join(strings.Fields(string(read(t, filepath.Join(root, "resnet50_trt", "config.pbtxt")))), " ")
	if !strings.Contains(config, "dims: 3 dims: 224 dims: 224 }") || strings.Contains(config, "-1") {
		t.Errorf("the served configuration is\n%s", config)
	}
}

func TestPicturesOfSeveralSizes(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
			t.Fatal(err)
		}
		c := configs(t, w)["dali"]
		if in := c.GetInput(); len(in) != 1 || !in[0].GetAllowRaggedBatch() || !slices.Equal(in[0].GetDims(), []int64{-1}) || c.GetDynamicBatching() == nil {
			t.Errorf("%s: files of several lengths cannot be one batch: %v", name, c)
		}
	}
}

func TestServerCrash(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.make(t, steps.IDServe)
	w.instead(steps.IDServe, prints(139, "I1122 14:08:41.375090 1 dali_backend.cc:81] loading", "Signal (11) received."))
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
	if f.Error() != "tritonserver exited with status 139: the server crashed" || len(f.Tail) != 2 || f.Repeat == "" {
		t.Errorf("got %q with the tail %q", f, f.Tail)
	}
}

func TestStaleServerOptions(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		command := specOf(t, specs(t, newWorld(t)), steps.IDServe).Command
		if !slices.Contains(command, "--model-repository=/models") || slices.ContainsFunc(command, func(arg string) bool {
			return strings.HasPrefix(arg, "--model-store") || strings.HasPrefix(arg, "--strict-model-config")
		}) {
			t.Errorf("%s: the server is called as %v", name, command)
		}
	}
}

func TestTrtexecElsewhere(t *testing.T) {
	t.Parallel()
	command := strings.Join(specOf(t, specs(t, gpuNGC(t)), steps.IDBuildEngine).Command, " ")
	if !strings.Contains(command, "$PATH:/usr/src/tensorrt/bin:/opt/tensorrt/bin") {
		t.Errorf("trtexec is looked for by %s", command)
	}
}

// TestClientSharedMemory checks that the steps need no shared memory of the client: a server of 26.04 and later refuses
// it by default, and the fake one always does.
func TestClientSharedMemory(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		if err := w.run(t, t.Context(), steps.IDVerify); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		command := specOf(t, specs(t, newWorld(t)), steps.IDServe).Command
		if slices.ContainsFunc(command, func(arg string) bool { return strings.Contains(arg, "shm") }) {
			t.Errorf("%s: the server is called as %v", name, command)
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.fake.OnPull = func(context.Context, string, func(container.Progress)) error {
		return fmt.Errorf("write /var/lib/docker/tmp/GetImageBlob1: %w", container.ErrNoSpace)
	}
	f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
	if !strings.Contains(f.Hint, "docker system df") {
		t.Errorf("the hint is %q", f.Hint)
	}
}
