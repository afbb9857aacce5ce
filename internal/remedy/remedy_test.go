package remedy

import (
	"regexp"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
)

// message is what a tool said: a file of internal/tooltest, or a line that an issue quotes.
type message struct{ file, line string }

// messages are those of every row, written out.
func messages() map[string][]message {
	file := func(names ...string) (m []message) {
		for _, name := range names {
			m = append(m, message{file: name})
		}
		return m
	}
	quoted := func(lines ...string) (m []message) {
		for _, line := range lines {
			m = append(m, message{line: line})
		}
		return m
	}
	return map[string][]message{
		"no-gpu-driver-in-engine": quoted(`could not select device driver "" with capabilities: [[gpu]]`,
			`docker: Error response from daemon: could not select device driver "nvidia" with capabilities: [[gpu]].`),
		"cdi-device-unknown": file("gpus-device-7.txt", "gpus-device-unknown-uuid.txt"),
		"gpu-unknown": quoted("nvidia-container-cli: device error: unknown device id: no-gpu-has-2MiB-to-run",
			"nvidia-container-cli.real: device error: MIG-GPU-932bfb2c-849a-2a22-1e84-9eff6bc02b39/1/0: unknown device"),
		"cuda-required": quoted("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version, or use an earlier cuda container: unknown",
			"nvidia-container-cli: requirement error: unsatisfied condition: cuda >= 9.0"),
		"driver-mismatch": quoted("nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown",
			"Failed to initialize NVML: Driver/library version mismatch"),
		"driver-not-loaded": quoted("nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown."),
		"driver-missing":    quoted("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory: unknown."),
		"gpu-lost":          quoted("Failed to initialize NVML: Unknown Error"),
		"gpu-faulty":        quoted("RuntimeError: CUDA error: uncorrectable ECC error encountered"),

		"gpu-out-of-memory": append(file("trtexec-10.6-oom-build.log", "trtexec-10.6-oom-load.log"), quoted(
			"[05/27/2023-17:01:36] [E] [TRT] 1: [defaultAllocator.cpp::nvinfer1::internal::DefaultAllocator::allocate::19] Error Code 1: Cuda Runtime (out of memory)",
			"[05/27/2023-17:01:37] [E] [TRT] 2: [executionContext.cpp::nvinfer1::rt::ExecutionContext::ExecutionContext::470] Error Code 2: OutOfMemory (no further information)",
			"ERROR: ../rtSafe/safeRuntime.cpp (25) - Cuda Error in allocate: 2 (out of memory)")...),
		"dali-out-of-memory": quoted("Can't allocate 4489633333248 bytes on device 0.",
			"Error in thread 31: nvJPEG error (5): The user-provided allocator functions, for either memory allocation or for releasing the memory, returned a non-zero code.",
			`NVJPEG error "5" : NVJPEG_STATUS_ALLOCATOR_FAILURE n02130308/ILSVRC2012_val_00033687.JPEG`),
		"gpu-unsupported": quoted("[04/25/2024-15:52:54] [TRT] [E] 1: Unsupported SM: 0x601",
			"[07/19/2025-23:34:55] [E] Error[9]: IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error (Target GPU SM 120 is not supported by this TensorRT release.)",
			"[06/02/2022-02:55:34] [E] [TRT] ../rtExt/cuda/cudaPluginV2DynamicExtRunner.cpp (108) - Cuda Error in execute: 209 (no kernel image is available for execution on the device)"),
		"gpu-not-seen": quoted("model_0 of model model has kind KIND_GPU but no GPUs are available",
			"E0303 12:30:23.159896 1577 model_repository_manager.cc:1682] instance group 124M2_1 of model 124M2 specifies invalid or unsupported gpu id 1. GPUs with at least  the minimum required CUDA compute compatibility of 6.000000 are: 0",
			"ERROR: No supported GPU(s) detected to run this container"),
		"gpu-busy": quoted("E0416 20:04:12.388024 69759 pinned_memory_manager.cc:194] failed to allocate pinned system memory: all CUDA-capable devices are busy or unavailable",
			"RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
		"tensorrt-without-gpu": file("tritonserver-without-gpus.log"),
		"dali-without-gpu": append(file("serialize-dali-no-gpu.log"), quoted(
			`RuntimeError: [/opt/dali/dali/core/device_guard.cc:31] Assert on "cuInitChecked()" failed: Failed to load libcuda.so. Check your library paths and if the driver is installed correctly.`)...),
		"no-cuda-device": quoted("runtime error in cudaGetDeviceCount(&deviceCount): no CUDA-capable device is detected",
			"[E] [TRT] Cuda initialization failure with error 100. Please check cuda installation: http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html."),
		"driver-insufficient": append(file("trtexec-10.6-no-gpu.log"), quoted("[E] [TRT] CUDA initialization failure with error 35.",
			`CUDA error code=35(cudaErrorInsufficientDriver) "cudaSetDevice(device)"`)...),
		"nvml-partial": quoted("Error in thread 0: nvml error (3): The nvml requested operation is not available on target device",
			"Error in thread 0: nvml error (999): A nvml internal driver error occurred"),

		"engine-of-other-gpu": quoted("[TRT] [E] 6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.9, please rebuild."),
		"engine-of-other-tensorrt": quoted(
			"Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 226, Serialized Engine Version: 228)",
			"E1008 08:29:52.094179 1 logging.cc:43] 1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 205, Serialized Engine Version: 213)",
			"[TRT] [E] 6: The engine plan file is not compatible with this version of TensorRT, expecting library version 8.2.3 got 8.2.1, please rebuild."),
		// All of what is said at once, of a build: what comes first is of the cache, and not of an engine.
		"timing-cache-refused": quoted("[03/31/2023-07:12:49] [TRT] [E] 4: Timing cache header mismatch:Incoming ITimingCache: UUID = GPU-e95b6d5c-6b23-2af9-45f9-3df237cfd30f, commit = 9a73423585f0fcfc",
			"[Error][TRT] 1: [stdArchiveReader.cpp::nvinfer1::rt::StdArchiveReader::StdArchiveReaderInitCommon::36] Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.)\n"+
				"[Error][TRT] 4: The timing cache will not be used!",
			"[11/22/2026-14:05:31] [E] [TRT] Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, Serialized Engine Version: 240)\n"+
				"[11/22/2026-14:05:31] [E] TimingCache creation failed"),
		// The last of three lines; the first speaks of the magic tag.
		"static-tls": quoted("E0705 08:34:25.996654 18559 logging.cc:43] coreReadArchive.cpp (32) - Serialization Error in verifyHeader: 0 (Magic tag does not match)\n" +
			"E0705 08:34:25.996744 18559 logging.cc:43] INVALID_CONFIG: Deserialize the cuda engine failed.\n" +
			"E0716 06:43:17.941151 5269 model_repository_manager.cc:986] failed to load 'retinaface_preprocess' version 1: Not found: unable to load backend library: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: cannot allocate memory in static TLS block"),
		"magic-tag": quoted("E0716 06:43:17.929970 5269 logging.cc:43] coreReadArchive.cpp (32) - Serialization Error in verifyHeader: 0 (Magic tag does not match)",
			"Serialization assertion magicTagRead == kMAGIC_TAG failed."),
		"engine-cut-short": file("tritonserver-truncated-plan.log", "trtexec-10.6-truncated-plan-load.log"),
		"fp16-unknown":     quoted("[11/22/2026-14:05:31] [E] Unknown option: --fp16 "),
		"option-unknown":   file("trtexec-10.6-unknown--buildOnly.log", "trtexec-10.6-unknown--explicitBatch.log"),
		"input-name":       file("trtexec-10.6-wrong-input-name.log"),
		"trtexec-missing":  quoted("trtexec: 1: exec: trtexec: not found", "trtexec: 1: trtexec: not found", "trtexec: line 1: trtexec: command not found"),

		"dali-operator-unknown": quoted(`[/opt/dali/dali/pipeline/operator/op_schema.cc:43] Assert on "it != schema_map.end()" failed: Schema for operator 'decoders__Image' not registered`,
			`No schema found for operator "readers__Numpy"`),
		"dali-too-old": quoted("AttributeError: module 'nvidia.dali' has no attribute 'pipeline_def'"),
		"python-module-missing": quoted("ModuleNotFoundError: No module named 'numpy'", // in a Python for DALI, or in any other
			"ModuleNotFoundError: No module named 'lief'"), // of ModelOpt's
		"dali-file-missing": quoted("E0714 12:40:59.798660 1 dali_model.cc:32] Failed to open serialized model file: models/dali/1/model.dali",
			"version 1 is at UNAVAILABLE state: Unknown: DALI Backend error: Failed to load model file. The program looked in the following locations: /models/dali_decoder/1/d"),
		"version-folder-missing": file("tritonserver-no-version-dir.log"),
		"dims-mismatch": quoted("failed to load 'inprivacy' version 2: Invalid argument: model 'inprivacy_0_gpu0', tensor '350': the model expects 0 dimensions (shape []) but the model configuration specifies 1 dimensions (shape [1])",
			"model 'keypoints_pose_0', tensor 'input.1': the model expects 4 dimensions (shape [1,3,224,224]) but the model configuration specifies 4 dimensions (shape [1,3,224,244])"),
		"port-in-use": quoted("E0118 08:25:14.316508 570 main.cc:245] failed to start GRPC service: Unavailable - Socket '0.0.0.0:2222' already in use",
			"E0118 08:31:52.149680 840 main.cc:257] failed to start HTTP service: Unavailable - Socket '0.0.0.0:1111' already in use"),
		"shared-memory-full": quoted("UNAVAILABLE: Internal: Unable to initialize shared memory key 'triton_python_backend_shm_region_3' to requested size (67108864 bytes). If you are running Triton inside docker, use '--shm-size' flag to control the shared memory region size. Each Python backend model instance requires at least 64MBs of shared memory. Error: No space left on device",
			"ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
			"RuntimeError: DataLoader worker (pid 325) is killed by signal: Bus error."),
		"entrypoint-misused":    quoted("/opt/nvidia/nvidia_entrypoint.sh: line 49: exec: --: invalid option"),
		"tritonserver-missing":  quoted("/opt/tensorrtserver/nvidia_entrypoint.sh: line 92: exec: tritonserver: not found"),
		"server-option-unknown": quoted("tritonserver: unrecognized option '--t_exit_on_error=True'"),

		DiskFull: quoted("error: [Errno 28] No space left on device: '/out/model.onnx'", "write /out/x: disk quota exceeded"),
		"library-missing": quoted("libcudart-9335f6a2.so.12.4.99: cannot open shared object file: No such file or directory",
			"UNAVAILABLE: Not found: unable to load shared library: libnvinfer_plugin_tensorrt_llm.so.9: cannot open shared object file: No such file or directory"),
		"driver-too-old":    quoted("ERROR: This container was built for NVIDIA Driver Release 450.51 or later, but\n       version 440.33.01 was detected and compatibility mode is UNAVAILABLE."),
		"onnx-unreadable":   file("trtexec-10.6-missing-onnx.log"),
		"engine-not-saved":  file("trtexec-10.6-unwritable-output.log"),
		"engine-unreadable": file("tritonserver-missing-plan.log"),
		"server-crashed":    quoted("Signal (11) received."),
	}
}

func (m message) text() string {
	if m.file == "" {
		return m.line
	}
	return tooltest.Output(m.file)
}

// TestRows checks each row against what the tool printed, whole logs first of all.
func TestRows(t *testing.T) {
	t.Parallel()
	all := messages()
	for _, row := range table() {
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			if len(all[row.ID]) == 0 {
				t.Error("no message")
			}
			for _, m := range all[row.ID] {
				got, _, ok := Find(m.text())
				if !ok || got.ID != row.ID {
					t.Errorf("%s%s: got %q", m.file, m.line, got.ID)
				}
				if m.file != "" && !strings.Contains(row.Source, "testdata/"+m.file) {
					t.Errorf("its source %q does not name %s", row.Source, m.file)
				}
			}
		})
	}
	if len(all) != len(table()) {
		t.Errorf("there are messages for %d rows of %d", len(all), len(table()))
	}
}

// TestHarmless checks that nothing which tools print when all is well is taken for a reason.
func TestHarmless(t *testing.T) {
	t.Parallel()
	files := []string{
		"trtexec-10.6-build-fp16.log", "trtexec-10.6-build-fp32.log", "trtexec-10.6-getPlanVersionOnly.log", "trtexec-10.6-truncated-plan-version.log",
		"trtexec-10.6-perf-b256.log", "tritonserver-gpu-ready.log", "tritonserver-gpu-stop.log", "tritonserver-gpu-after-bad-jpeg.log",
		"tritonserver-cpu-lane.log", "serialize-dali.log",
	}
	texts := map[string]string{"trtexec's help": tooltest.TrtexecHelp()} // which an unknown option comes with
	for _, file := range files {
		texts[file] = tooltest.Output(file)
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text == "" {
				t.Error("it is empty")
			}
			for line := range strings.Lines(text) {
				if r, _, ok := Find(line); ok {
					t.Errorf("%s: %s", r.ID, line)
				}
			}
		})
	}
}

// TestBanner: NVIDIA's image says it where it works as well, by the library for forward compatibility or by a driver of the same CUDA. It
// raises no kind, and anything else that is known says more.
func TestBanner(t *testing.T) {
	t.Parallel()
	const banner = "ERROR: This container was built for NVIDIA Driver Release 450.51 or later, but\n       version 440.33.01 was detected and compatibility mode is UNAVAILABLE.\n"
	if r, _, ok := Find(banner); !ok || r.ID != "driver-too-old" || r.Kind != pipeline.ContainerFailed {
		t.Errorf("the banner is told as %q, of kind %d", r.ID, r.Kind)
	}
	for id, all := range messages() {
		for _, m := range all {
			if got, _, _ := Find(banner + m.text()); got.ID != id {
				t.Errorf("after the banner, %s%s is told as %q", m.file, m.line, got.ID)
			}
		}
	}
}

// TestTellingLine checks that of several known lines the cause is told, wherever it stands, and that the line is the tool's.
func TestTellingLine(t *testing.T) {
	t.Parallel()
	const (
		full          = "No space left on device"
		unsaved       = "[11/22/2026-14:05:57] [E] Saving engine to file failed."
		oom           = "Cuda failure: out of memory"
		skipped       = "[11/22/2026-14:05:31] [E] Error[2]: [virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)"
		created       = "[11/22/2026-14:05:56] [I] Created engine with size: 49.4 MiB"
		otherTensorRT = "[11/22/2026-14:05:31] [E] [TRT] Serialization assertion failed.Version tag does not match."
		refused       = "[11/22/2026-14:05:31] [E] TimingCache creation failed"
		ignored       = "[11/22/2026-14:05:31] [E] [TRT] 4: Timing cache header mismatch:Incoming ITimingCache: UUID = GPU-e95b6d5c"
		crash         = "Signal (11) received."
	)
	for name, test := range map[string]struct {
		id    string
		cause string
		lines []string
	}{
		"cause first":              {"gpu-out-of-memory", oom, []string{"begins", oom, crash, "ends"}},
		"cause last":               {"gpu-out-of-memory", oom, []string{crash, "more", oom}},
		"cause twice":              {"gpu-out-of-memory", oom, []string{oom, "more", "Cuda failure: out of memory, again"}},
		"only a cause":             {"gpu-out-of-memory", oom, []string{oom}},
		"disk full after a tactic": {DiskFull, full, []string{skipped, created, unsaved, full}},
		"unsaved after a tactic":   {"engine-not-saved", unsaved, []string{skipped, created, unsaved}},
		"input after a tactic":     {"input-name", `[E] Cannot find input tensor with name "x" in the network inputs!`, []string{skipped, `[E] Cannot find input tensor with name "x" in the network inputs!`}},
		"timing cache":             {"timing-cache-refused", refused, []string{otherTensorRT, refused}},
		"timing cache passed over": {DiskFull, full, []string{ignored, created, unsaved, full}},
		"memory, cache passed":     {"gpu-out-of-memory", oom, []string{ignored, oom}},
		"engine":                   {"engine-of-other-tensorrt", otherTensorRT, []string{otherTensorRT, "unable to load plan file to auto complete config: /models/resnet50_trt/1/model.plan"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f Finder
			for _, line := range test.lines {
				f.Read(line)
			}
			if r, line, ok := f.Found(); !ok || r.ID != test.id || line != test.cause {
				t.Errorf("got %q for %q, want %s", r.ID, line, test.id)
			}
		})
	}
	var f Finder
	f.Read("nothing that is known")
	if r, line, ok := f.Found(); ok || line != "" || r.ID != "" {
		t.Errorf("got %q for %q", r.ID, line)
	}
}

// TestStyle checks what every row has: a user reads Text after a colon, and Hint after "hint: ".
func TestStyle(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	id, lower := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`), regexp.MustCompile("^([a-z`]|--|DALI |NVIDIA|TensorRT )")
	for _, r := range table() {
		if seen[r.ID] || !id.MatchString(r.ID) {
			t.Errorf("the ID %q is there twice, or is none", r.ID)
		}
		seen[r.ID] = true
		for _, text := range []string{r.Text, r.Hint} {
			if !lower.MatchString(text) || strings.HasSuffix(text, ".") || strings.Contains(text, "failed to") {
				t.Errorf("%s: %q", r.ID, text)
			}
		}
		if r.Kind != pipeline.Environment && r.Kind != pipeline.ContainerFailed {
			t.Errorf("%s is of kind %d", r.ID, r.Kind)
		}
		if r.Tool == "" || r.Source == "" {
			t.Errorf("%s lacks its tool or its source", r.ID)
		}
	}
}
