package steps_test

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestPains shows, for the rows of the list of known pains that concern builds, GPUs and images, the automatic remedy or the early, clear
// error. What needs a container engine is in TestPains of the integration tests.
func TestPains(t *testing.T) {
	t.Parallel()
	t.Run("pain 1: images of two releases", painReleases)
	t.Run("pain 2: engine of another GPU", painOtherGPU)
	t.Run("pain 3: engine of another TensorRT", painOtherTensorRT)
	t.Run("pain 4: magic tag", painMagicTag)
	t.Run("pain 5: DALI older than the pipeline", painDALI)
	t.Run("pain 6: releases without DALI in the server", painNoDALI)
	t.Run("pain 7: options that TensorRT 10 dropped", painTensorRT10)
	t.Run("pain 8: fp16 that TensorRT 11 dropped", painTensorRT11)
	t.Run("pain 9: failure that is told as success", painFalseSuccess)
	t.Run("pain 11: picture that is no longer there", painPicture)
	t.Run("pain 12: version folders", painVersionFolders)
	t.Run("pain 13: folder of the plan", painPlanFolder)
	t.Run("pain 15: driver too old", painOldDriver)
	t.Run("pain 17: GPU too old", painOldGPU)
	t.Run("pain 18: unlike GPUs", painUnlikeGPUs)
	t.Run("pain 19: NVML on WSL 2", painNVML)
	t.Run("pain 20: DALI without a GPU", painNoGPU)
	t.Run("pain 21: TensorRT without a GPU", painTensorRTOnCPU)
	t.Run("pain 26: entrypoint", painEntrypoint)
	t.Run("pain 27: out of memory", painMemory)
	t.Run("pain 28: absurd shapes", painShapes)
	t.Run("pain 29: shape of the configuration", painConfiguration)
	t.Run("pain 31: crash of the server", painCrash)
	t.Run("pain 33: stale options", painStaleOptions)
	t.Run("pain 34: trtexec elsewhere", painTrtexec)
	t.Run("pain 37: disk full", painDisk)
}

// known checks that a message is of a row of the pain, and that it is told with what to do.
func known(t *testing.T, pain int, message string) {
	t.Helper()
	if r, ok := remedy.Find(message); !ok || !slices.Contains(r.Pain, pain) || r.Text == "" || r.Hint == "" {
		t.Errorf("%q is told as %q, of the pains %v, with the hint %q", message, r.Text, r.Pain, r.Hint)
	}
}

// specOf returns what w's step id runs.
func specOf(t *testing.T, all []container.Spec, id pipeline.ID) container.Spec {
	t.Helper()
	i := slices.IndexFunc(all, func(s container.Spec) bool { return s.Step == string(id) })
	if i < 0 {
		t.Fatalf("%s runs no container", id)
	}
	return all[i]
}

func painReleases(t *testing.T) {
	t.Parallel()
	for _, r := range release.All() {
		o := steps.Options{Release: r, Registry: "mirror.test"}
		exporter, server := path.Base(o.ExporterImage()), path.Base(o.ServerImage())
		if want := r.Tag + "-py3"; exporter != "pytorch:"+want || server != "tritonserver:"+want {
			t.Errorf("%s takes %s and %s", r.Tag, exporter, server)
		}
	}
}

func painOtherGPU(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	before := w.facts(t, steps.IDBuildEngine)
	for name, device := range map[string]steps.Device{
		"model":              {Name: "NVIDIA A100-SXM4-80GB", Compute: h100.Compute, Driver: h100.Driver},
		"compute capability": {Name: h100.Name, Compute: "8.0", Driver: h100.Driver},
		"driver":             {Name: h100.Name, Compute: h100.Compute, Driver: "590.48.01"},
	} {
		w.options.Device = device
		after := w.facts(t, steps.IDBuildEngine)
		if fmt.Sprint(before) == fmt.Sprint(after) {
			t.Errorf("with another %s the engine is taken for the same: %v", name, after)
		}
	}
	known(t, 2, "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.9, please rebuild.")
}

func painOtherTensorRT(t *testing.T) {
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
	known(t, 3, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 226, Serialized Engine Version: 228")
	known(t, 3, "The engine plan file is not compatible with this version of TensorRT, expecting library version 8.2.3 got 8.2.1, please rebuild.")
}

func painMagicTag(t *testing.T) {
	t.Parallel()
	known(t, 4, "coreReadArchive.cpp (32) - Serialization Error in verifyHeader: 0 (Magic tag does not match)")
	known(t, 4, "unable to load backend library: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: cannot allocate memory in static TLS block")
}

func painDALI(t *testing.T) {
	t.Parallel()
	all := specs(t, gpuNGC(t))
	if serialize, serve := specOf(t, all, steps.IDSerializeDALI), specOf(t, all, steps.IDServe); serialize.Image != serve.Image {
		t.Errorf("DALI is serialized in %s and served by %s", serialize.Image, serve.Image)
	}
	known(t, 5, "Schema for operator 'decoders__Image' not registered")
	known(t, 5, "AttributeError: module 'nvidia.dali' has no attribute 'pipeline_def'")
}

func painNoDALI(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]release.Where{
		"21.07": release.ExporterImage, "22.06": release.ExporterImage, "24.04": release.ExporterImage, // their servers have none
		"22.07": release.ServerImage, "24.03": release.ServerImage, "24.05": release.ServerImage, "25.03": release.ServerImage,
	} {
		if r := find(t, tag); r.DALIIn != want || r.DALIInterpreter == "" {
			t.Errorf("%s serializes in the %s image by %q, want the %s image", tag, r.DALIIn, r.DALIInterpreter, want)
		}
	}
	known(t, 6, "ModuleNotFoundError: No module named 'numpy'")
}

// trtexecOf are the arguments for a TensorRT, as it is asked for by default.
func trtexecOf(t *testing.T, version string, cast bool) []string {
	t.Helper()
	v, err := release.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	args, err := release.Trtexec(v, release.EngineBuild{
		ONNX: "/in/model.onnx", Plan: "/out/model.plan", Input: "input", MinBatch: 1, OptBatch: 64, MaxBatch: 256,
		Precision: release.FP16, Cast: cast,
	})
	if err != nil {
		t.Fatal(err)
	}
	return args
}

func painTensorRT10(t *testing.T) {
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
	known(t, 7, "[11/22/2026-14:05:31] [E] Unknown option: --buildOnly")
}

func painTensorRT11(t *testing.T) {
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
	if args, err := release.Trtexec(v, release.EngineBuild{
		ONNX: "m", Plan: "p", Input: "input", MinBatch: 1, OptBatch: 1, MaxBatch: 1, Precision: release.FP16,
	}); err == nil {
		t.Errorf("an engine in fp32 would be built as fp16: %v", args)
	}
	known(t, 8, "[11/22/2026-14:05:31] [E] Unknown option: --fp16")
}

func painFalseSuccess(t *testing.T) {
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

func painPicture(t *testing.T) {
	t.Parallel()
	if config, err := jpeg.DecodeConfig(bytes.NewReader(coffee())); err != nil || config.Width == 0 {
		t.Errorf("the picture that dalirun carries is %+v, %v", config, err)
	}
}

func painVersionFolders(t *testing.T) {
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
	known(t, 12, "at least one version must be available under the version policy of model 'ensemble_dali_resnet50'")
}

func painPlanFolder(t *testing.T) {
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
	known(t, 13, "[11/22/2026-14:05:57] [E] Saving engine to file failed.")
}

func painOldDriver(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "470.239.06", Compute: []string{"8.6"}}
	reasons := find(t, "25.03").Check(h)
	if len(reasons) == 0 || reasons[0].Kind != release.DriverTooOld || !strings.Contains(reasons[0].Text, "470.239.06") {
		t.Errorf("what speaks against 25.03 is %+v", reasons)
	}
	if newest, _ := release.Newest(h); newest.Tag == "" || newest.Tag > "22.12" {
		t.Errorf("%s is taken for a host with driver 470", newest.Tag) // CUDA 12 needs 525
	}
	known(t, 15, "       version 440.33.01 was detected and compatibility mode is UNAVAILABLE.")
	known(t, 15, "Cuda failure: CUDA driver version is insufficient for CUDA runtime version")
}

func painOldGPU(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "580.159.04", Compute: []string{"6.1"}}
	if reasons := find(t, "25.03").Check(h); len(reasons) == 0 || reasons[0].Kind != release.ComputeTooLow {
		t.Errorf("what speaks against 25.03 is %+v", reasons)
	}
	if newest, _ := release.Newest(h); newest.Tag == "" || newest.Tag > "24.04" {
		t.Errorf("%s is taken for a GPU of compute capability 6.1", newest.Tag) // TensorRT 10 needs 7.0
	}
	known(t, 17, "instance group m_0 of model m has kind KIND_GPU but no GPUs are available")
	known(t, 17, "1: Unsupported SM: 0x601")
}

func painUnlikeGPUs(t *testing.T) {
	t.Parallel()
	gpus := host.GPUs{Driver: "580.159.04", Devices: []host.GPU{
		{Index: 0, UUID: "GPU-aaaaaaaa-0000-0000-0000-000000000000", Name: "NVIDIA A100-SXM4-80GB", Compute: "8.0"},
		{Index: 1, UUID: "GPU-bbbbbbbb-0000-0000-0000-000000000000", Name: "NVIDIA L4", Compute: "8.9"},
	}}
	if chosen, err := gpus.Select("all"); err == nil || !strings.Contains(err.Error(), "NVIDIA L4") {
		t.Errorf("unlike GPUs are taken together: %v, %v", chosen, err)
	}
	if chosen, err := gpus.Select("device=GPU-bbbbbbbb"); err != nil || len(chosen) != 1 || chosen[0].Index != 1 {
		t.Errorf("one by its UUID is %v, %v", chosen, err)
	}
	w := gpuNGC(t)
	w.options.GPUs = "device=GPU-bbbbbbbb"
	all := specs(t, w)
	for _, id := range []pipeline.ID{steps.IDBuildEngine, steps.IDServe} {
		if got := specOf(t, all, id).GPUs; got != w.options.GPUs {
			t.Errorf("%s gets the GPUs %q", id, got)
		}
	}
	known(t, 18, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7")
}

// painNVML is about who tells DALI; TestWithoutNVML is about what it is told.
func painNVML(t *testing.T) {
	t.Parallel()
	if !host.WSL("Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host)") || host.WSL("Linux version 6.8.0-45-generic (buildd@lcy02-amd64-115)") {
		t.Error("WSL 2 is not told from Ubuntu")
	}
	known(t, 19, "Error in thread 0: nvml error (3): The nvml requested operation is not available on target device")
	known(t, 19, "Failed to initialize NVML: Unknown Error")
}

func painNoGPU(t *testing.T) {
	t.Parallel()
	all := specs(t, cpuNGC(t))
	command := specOf(t, all, steps.IDSerializeDALI).Command
	if i := slices.Index(command, "--device"); i < 0 || command[i+1] != "cpu" {
		t.Errorf("DALI is serialized by %v", command)
	}
	for _, spec := range all {
		if spec.GPUs != "" {
			t.Errorf("%s asks for the GPUs %s", spec.Step, spec.GPUs)
		}
	}
	known(t, 20, `Assert on "!params.device_id.has_value() || cuInitChecked()" failed: You are trying to create a GPU DALI pipeline while CUDA is not available.`)
}

func painTensorRTOnCPU(t *testing.T) {
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
	known(t, 21, "unable to load model 'resnet50_trt', TensorRT backend supports only GPU device")
}

func painEntrypoint(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		if got := specOf(t, specs(t, newWorld(t)), steps.IDServe).Command[0]; got != "tritonserver" {
			t.Errorf("%s: the entrypoint is given %s to run", name, got)
		}
	}
	known(t, 26, "/opt/nvidia/nvidia_entrypoint.sh: line 49: exec: --: invalid option")
}

func painMemory(t *testing.T) {
	t.Parallel()
	all := specs(t, smallBatches(t))
	build, serialize := specOf(t, all, steps.IDBuildEngine), specOf(t, all, steps.IDSerializeDALI)
	if !slices.Contains(build.Command, "--maxShapes=input:8x3x224x224") || !strings.Contains(strings.Join(serialize.Command, " "), "--max-batch 8") {
		t.Errorf("with --max-batch 8 they are %v and %v", build.Command, serialize.Command)
	}
	for _, message := range []string{
		"Cuda failure: out of memory",
		"nvJPEG error (5): The user-provided allocator functions, for either memory allocation or for releasing the memory, returned a non-zero code.",
	} {
		known(t, 27, message)
		if r, _ := remedy.Find(message); !strings.Contains(r.Hint, "--max-batch") {
			t.Errorf("the hint is %q", r.Hint)
		}
	}
}

func painShapes(t *testing.T) {
	t.Parallel()
	command := specOf(t, specs(t, gpuNGC(t)), steps.IDBuildEngine).Command
	for _, shape := range []string{"--minShapes=input:1x3x224x224", "--optShapes=input:64x3x224x224", "--maxShapes=input:256x3x224x224"} {
		if !slices.Contains(command, shape) {
			t.Errorf("trtexec is called without %s: %v", shape, command)
		}
	}
	known(t, 28, "Can't allocate 4489633333248 bytes on device 0.")
}

func painConfiguration(t *testing.T) {
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
	known(t, 29, "the model expects 4 dimensions (shape [-1,3,224,224]) but the model configuration specifies 4 dimensions (shape [-1,3,-1,-1])")
}

func painCrash(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.make(t, steps.IDServe)
	w.instead(steps.IDServe, prints(139, "I1122 14:08:41.375090 1 dali_backend.cc:81] loading", "Signal (11) received."))
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
	if f.Error() != "tritonserver exited with status 139: the server crashed" || len(f.Tail) != 2 || f.Repeat == "" {
		t.Errorf("got %q with the tail %q", f, f.Tail)
	}
	known(t, 31, "unable to load shared library: libdali.so: cannot open shared object file: No such file or directory")
}

func painStaleOptions(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		command := specOf(t, specs(t, newWorld(t)), steps.IDServe).Command
		if !slices.Contains(command, "--model-repository=/models") || slices.ContainsFunc(command, func(arg string) bool {
			return strings.HasPrefix(arg, "--model-store") || strings.HasPrefix(arg, "--strict-model-config")
		}) {
			t.Errorf("%s: the server is called as %v", name, command)
		}
	}
	known(t, 33, "tritonserver: unrecognized option '--model-stor=/models'")
}

func painTrtexec(t *testing.T) {
	t.Parallel()
	command := strings.Join(specOf(t, specs(t, gpuNGC(t)), steps.IDBuildEngine).Command, " ")
	if !strings.Contains(command, "$PATH:/usr/src/tensorrt/bin:/opt/tensorrt/bin") {
		t.Errorf("trtexec is looked for by %s", command)
	}
	known(t, 34, "trtexec: 1: exec: trtexec: not found")
}

func painDisk(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.fake.OnPull = func(context.Context, string, func(container.Progress)) error {
		return fmt.Errorf("write /var/lib/docker/tmp/GetImageBlob1: %w", container.ErrNoSpace)
	}
	f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
	if !strings.Contains(f.Hint, "docker system df") {
		t.Errorf("the hint is %q", f.Hint)
	}
	known(t, 37, "error: [Errno 28] No space left on device: '/out/model.onnx'")
}
