package remedy

import (
	"regexp"

	"github.com/dalirun/dalirun/pipeline"
)

// hostRows are what the container engine and NVIDIA's part of it say when they cannot start a container with a GPU, and
// what nvidia-smi says in one.
func hostRows() []Remedy {
	re := regexp.MustCompile
	return []Remedy{
		{
			ID: "no-gpu-driver-in-engine", Tool: "container engine", Kind: pipeline.Environment,
			Pattern: re(`could not select device driver ".*" with capabilities: \[\[gpu`),
			Text:    "the container engine cannot give GPUs to containers",
			Hint:    InstallToolkit + "; or " + UseCPU,
			Source:  "Docker Engine 20.10, tried; NVIDIA/nvidia-docker#1243, #1352",
		},
		{
			ID: "cdi-device-unknown", Tool: "container engine", Kind: pipeline.Environment,
			Pattern: re(`unresolvable CDI devices `),
			Text:    "the container engine knows no such GPU",
			Hint:    ListGPUs + "; if it is listed, " + RenewCDI,
			Source:  "testdata/gpus-device-7.txt, testdata/gpus-device-unknown-uuid.txt",
		},
		{
			ID: "gpu-unknown", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`nvidia-container-cli(\.real)?: device error: .*unknown device`),
			Text:    "this host has no such GPU",
			Hint:    ListGPUs + ", or fewer",
			Source:  "NVIDIA/nvidia-container-toolkit#203, #29; AliyunContainerService/gpushare-scheduler-extender#80",
		},
		{
			ID: "cuda-required", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`requirement error: unsatisfied condition: `),
			Text:    "the image asks for a newer driver than the host's",
			Hint:    UpdateDriver,
			Source:  "NVIDIA/nvidia-container-toolkit#152; NVIDIA/nvidia-docker#536, #1442; SyneRBI/PETRIC2#27",
		},
		{
			ID: "driver-mismatch", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`[Dd]river/library version mismatch`),
			Text:    "the NVIDIA driver was updated, and its kernel module is still the old one",
			Hint:    ReloadDriver,
			Source:  "NVIDIA/nvidia-container-toolkit#394, #171; NVIDIA/nvidia-docker#1451",
		},
		{
			ID: "driver-not-loaded", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`nvml error: driver not loaded`),
			Text:    "the kernel module of the NVIDIA driver is not loaded",
			Hint:    LoadDriver,
			Source:  "NVIDIA/nvidia-container-toolkit#1269; NVIDIA/nvidia-docker#1393",
		},
		{
			ID: "driver-missing", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`libnvidia-ml\.so\S*: cannot open shared object file`),
			Text:    "no NVIDIA driver is installed where the container engine runs",
			Hint:    InstallDriver + "; or " + UseCPU,
			Source:  "NVIDIA/libnvidia-container#231; docker/for-win#13835",
		},
		{
			ID: "gpu-lost", Tool: "NVIDIA runtime", Kind: pipeline.Environment,
			Pattern: re(`Failed to initialize NVML: Unknown Error`),
			Text: "the container lost its GPU, as by `systemctl daemon-reload`, " +
				"which takes devices away from running containers",
			Hint:   "run again; `sudo nvidia-ctk system create-dev-char-symlinks --create-all` on the host prevents it",
			Source: "NVIDIA/nvidia-container-toolkit#48, #251; NVIDIA/nvidia-docker#1671",
		},
		{
			ID: "gpu-faulty", Tool: "CUDA", Kind: pipeline.Environment,
			Pattern: re(`uncorrectable ECC error`),
			Text:    "the GPU's memory is faulty",
			Hint: "look at `sudo dmesg | grep Xid`, then reset the GPU (`sudo nvidia-smi --gpu-reset`) " +
				"or restart the machine; if it comes again, the GPU is to be replaced",
			Source: "vllm-project/vllm#5222; verl-project/verl#407",
		},
	}
}

// gpuRows are what programs in a container say of its GPU.
func gpuRows() []Remedy {
	re := regexp.MustCompile
	return []Remedy{
		{
			ID: "dali-out-of-memory", Tool: "DALI", Kind: pipeline.ContainerFailed,
			Pattern: re(`Can't allocate \d+ bytes on device|nvJPEG error \(5\)|NVJPEG_STATUS_ALLOCATOR_FAILURE`),
			Text:    "the GPU has too little free memory for DALI's batch",
			Hint:    FreeGPUMemory,
			Source:  "triton-inference-server/dali_backend#198, #188; NVIDIA/DALI#1434",
		},
		{
			ID: "gpu-unsupported", Tool: "TensorRT", Kind: pipeline.Environment,
			Pattern: re(`Unsupported SM\b|Target GPU SM \d+ is not supported|no kernel image is available for execution`),
			Text:    "the TensorRT of the image does not support the GPU's compute capability",
			Hint:    "take a release that does: `dalirun doctor` says which (--release YY.MM)",
			Source:  "NVIDIA/TensorRT#3826, #2332; DDTRobot/tita_rl_sim2sim2real#7; Tencent/TPAT#8",
		},
		{
			ID: "gpu-not-seen", Tool: "tritonserver", Kind: pipeline.Environment,
			Pattern: re(`has kind KIND_GPU but no GPUs are available|specifies invalid or unsupported gpu id` +
				`|No supported GPU\(s\) detected to run this container`),
			Text: "the server finds no GPU that it supports",
			Hint: "`dalirun doctor` says whether the container engine offers one, " +
				"and which release supports it (--release YY.MM)",
			Source: "triton-inference-server/server#3912, #2584, #2562",
		},
		{
			ID: "gpu-busy", Tool: "CUDA", Kind: pipeline.Environment,
			Pattern: re(`all CUDA-capable devices are busy or unavailable|CUDA-capable device\(s\) is/are busy or unavailable`),
			Text:    "another program has the GPU for itself",
			Hint:    "stop it (`nvidia-smi` names it), or let programs share the GPU: `sudo nvidia-smi -c DEFAULT`",
			Source:  "triton-inference-server/server#1321; ultralytics/ultralytics#19744",
		},
		{
			ID: "tensorrt-without-gpu", Tool: "tritonserver", Kind: pipeline.Environment,
			Pattern: re(`TensorRT backend supports only GPU device`),
			Text:    "the server's container sees no GPU, and a TensorRT engine needs one",
			Hint:    "`dalirun doctor` says why; or serve on the CPU: --accel cpu",
			Source:  "testdata/tritonserver-without-gpus.log; triton-inference-server/server#4696, #5863",
		},
		{
			ID: "dali-without-gpu", Tool: "DALI", Kind: pipeline.Environment,
			Pattern: re(`cuInitChecked\(\)|Failed to load libcuda\.so`),
			Text:    "the container sees no GPU, and the DALI pipeline is for one",
			Hint:    "`dalirun doctor` says why; or run on the CPU: --accel cpu",
			Source:  "testdata/serialize-dali-no-gpu.log; triton-inference-server/dali_backend#217; NVIDIA/DALI#3387",
		},
		{
			ID: "no-cuda-device", Tool: "CUDA", Kind: pipeline.Environment,
			Pattern: re(`no CUDA-capable device is detected|[Cc][Uu][Dd][Aa] initialization failure with error:? 100\b`),
			Text:    "the container sees no GPU",
			Hint:    "`dalirun doctor` says why; or run on the CPU: --accel cpu",
			Source:  "triton-inference-server/tensorrtllm_backend#336; NVIDIA/TensorRT#149",
		},
		{
			ID: "driver-insufficient", Tool: "CUDA", Kind: pipeline.Environment,
			Pattern: re(`CUDA driver version is insufficient for CUDA runtime version|cudaErrorInsufficientDriver` +
				`|[Cc][Uu][Dd][Aa] initialization failure with error:? 35\b`),
			Text: "the container sees no NVIDIA driver, or one too old for its CUDA",
			Hint: "`dalirun doctor` says which: update the driver, take a release that it can run " +
				"(--release YY.MM), or use --accel cpu",
			Source: "testdata/trtexec-10.6-no-gpu.log; triton-inference-server/dali_backend#63; NVIDIA/TensorRT#2879",
		},
		{
			ID: "nvml-partial", Tool: "DALI", Kind: pipeline.Environment,
			Pattern: re(`nvml error \(\d+\)|nvml requested operation is not available|nvml internal driver error`),
			Text:    "DALI asked the driver for what WSL 2 and virtual GPUs do not tell",
			Hint: "update the driver; on WSL 2 dalirun keeps DALI from asking by itself (DALI_DISABLE_NVML=1): " +
				"run it inside WSL, where it can tell",
			Source: "NVIDIA/DALI#5696, #3878; triton-inference-server/server#7071",
		},
	}
}
