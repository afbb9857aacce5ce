package remedy

import (
	"regexp"

	"github.com/dalirun/dalirun/pipeline"
)

// engineRows are what trtexec says when it builds an engine, and what TensorRT says of one that it cannot load.
func engineRows() []Remedy {
	re := regexp.MustCompile
	return []Remedy{
		{
			ID: "engine-of-other-gpu", Tool: "TensorRT", Kind: pipeline.ContainerFailed,
			Pattern: re(`generated on an incompatible device, expecting compute \S+ got compute`),
			Text:    "the engine was built for a GPU of another compute capability",
			Hint:    "name one GPU for build and serving alike: --gpus device=UUID (`nvidia-smi -L` lists them)",
			Source:  "NVIDIA/TensorRT#564, #2177; triton-inference-server/server#3845",
		},
		{
			ID: "static-tls", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`cannot allocate memory in static TLS block`),
			Text: "the server's image cannot load a library of DALI's beside the others " +
				"(what it says of a magic tag follows from that)",
			Hint:   "serve with NVIDIA's own tritonserver image of a release: --release YY.MM",
			Source: "triton-inference-server/dali_backend#87; NVIDIA/DALI#3156",
		},
		{
			ID: "engine-cut-short", Tool: "TensorRT", Kind: pipeline.ContainerFailed,
			Pattern: re(`plan->header\.size == blobSize failed` +
				`|Failed to read memory from the stream: read \d+ out of \d+ bytes`),
			Text:   "the engine's file is cut short",
			Hint:   "build it anew by --force build-engine; if it comes again, check the disk of the cache",
			Source: "testdata/tritonserver-truncated-plan.log, testdata/trtexec-10.6-truncated-plan-load.log",
		},
		{
			ID: "fp16-unknown", Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`Unknown option: --fp16\b`),
			Text:    "trtexec of TensorRT 11 and later does not cast to fp16",
			Hint: "name the release of the image by --release YY.MM, so that the model is cast before; " +
				"or build with --precision fp32",
			Source: "samples/common/sampleOptions.cpp of NVIDIA/TensorRT, which has no --fp16 from release/11.0 on; " +
				"the words as in testdata/trtexec-10.6-unknown--buildOnly.log",
		},
		{
			ID: "option-unknown", Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`\[E\] Unknown option: `),
			Text:    "trtexec of this TensorRT has no such option",
			Hint:    "the image holds another TensorRT than it says: " + OneRelease,
			Source:  "testdata/trtexec-10.6-unknown--buildOnly.log, testdata/trtexec-10.6-unknown--explicitBatch.log",
		},
		{
			ID: "input-name", Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`Cannot find input tensor with name "`),
			Text:    "the ONNX model has no input of the name that was asked for",
			Hint:    "export it anew by --force export-onnx",
			Source:  "testdata/trtexec-10.6-wrong-input-name.log",
		},
		{
			ID: "trtexec-missing", Tool: "sh", Kind: pipeline.ContainerFailed,
			Pattern: re(`: trtexec: (command )?not found`),
			Text:    "the image has no trtexec on its PATH, in /usr/src/tensorrt/bin or in /opt/tensorrt/bin",
			Hint:    "take NVIDIA's images of a release: --release YY.MM",
			Source:  "dash and bash of Debian 12, tried; NVIDIA/TensorRT#2295",
		},
	}
}

// serverRows are what tritonserver, its DALI backend and the entrypoint of its image say.
func serverRows() []Remedy {
	re := regexp.MustCompile
	return []Remedy{
		{
			ID: "dali-operator-unknown", Tool: "DALI", Kind: pipeline.ContainerFailed,
			Pattern: re(`Schema for operator '[^']+' not registered|No schema found for operator "`),
			Text:    "the DALI pipeline was serialized by a newer DALI than the server's",
			Hint:    OneRelease,
			Source:  "NVIDIA/DALI#2933, #2944, #4476",
		},
		{
			ID: "dali-too-old", Tool: "DALI", Kind: pipeline.ContainerFailed,
			Pattern: re(`module 'nvidia\.dali' has no attribute 'pipeline_def'`),
			Text:    "the DALI of the image is older than 1.0 and has no pipeline_def",
			Hint:    "take a newer release: --release YY.MM, 21.07 or later",
			Source:  "triton-inference-server/dali_backend#96",
		},
		{
			ID: "python-module-missing", Tool: "python3", Kind: pipeline.ContainerFailed,
			Pattern: re(`ModuleNotFoundError: No module named '`),
			Text:    "the image's Python lacks a module that the program needs",
			Hint:    "take NVIDIA's own image of another release: --release YY.MM",
			Source: "triton-inference-server/dali_backend#142, #223 " +
				"(numpy, in the Python that the image has for DALI); CPython",
		},
		{
			ID: "dali-file-missing", Tool: "DALI", Kind: pipeline.ContainerFailed,
			Pattern: re(`Failed to load model file\. The program looked in the following locations` +
				`|Failed to open serialized model file`),
			Text:   "the DALI backend finds no serialized pipeline",
			Hint:   "make it anew by --force serialize-dali,assemble-repository",
			Source: "triton-inference-server/dali_backend#144, #217",
		},
		{
			ID: "version-folder-missing", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`at least one version must be available under the version policy of model '`),
			Text:    "the model repository lacks the version folder of a model",
			Hint: "make it anew by --force assemble-repository: " +
				"an ensemble too needs its empty folder 1, which git does not keep",
			Source: "testdata/tritonserver-no-version-dir.log; triton-inference-server/server#3623",
		},
		{
			ID: "dims-mismatch", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`the model expects \d+ dimensions \(shape \[.*but the model configuration specifies`),
			Text:    "the model's shape is not what its configuration says",
			Hint:    "make both anew by --force export-onnx,build-engine,assemble-repository",
			Source:  "triton-inference-server/server#2052, #4194",
		},
		{
			ID: "port-in-use", Tool: "tritonserver", Kind: pipeline.Environment,
			Pattern: re(`failed to start \w+ service: .*already in use`),
			Text:    "a port of the server is in use",
			Hint:    FreePort + " (--http-port, --grpc-port, --metrics-port)",
			Source:  "triton-inference-server/pytriton#1; triton-inference-server/tensorrtllm_backend#275",
		},
		{
			ID: "shared-memory-full", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`use '--shm-size' flag|run out of shared memory|insufficient shared memory \(shm\)` +
				`|is killed by signal: Bus error`),
			Text:   "the container's shared memory is full",
			Hint:   "raise --shm-size, or lower --max-batch",
			Source: "triton-inference-server/server#6195, #5681; pytorch/pytorch#5040, #108861",
		},
		{
			ID: "entrypoint-misused", Tool: "nvidia_entrypoint.sh", Kind: pipeline.ContainerFailed,
			Pattern: re(`exec: --: invalid option`),
			Text:    "the image's entrypoint was given options and no program",
			Hint:    "--server-image must name an image whose entrypoint runs what it is given, as NVIDIA's",
			Source:  "triton-inference-server/server#1632, #6952",
		},
		{
			ID: "tritonserver-missing", Tool: "nvidia_entrypoint.sh", Kind: pipeline.ContainerFailed,
			Pattern: re(`exec: tritonserver: not found`),
			Text:    "the image has no tritonserver on its PATH",
			Hint:    "--server-image must name an image of tritonserver, and --release one from 21.07 on",
			Source:  "triton-inference-server/server#3161",
		},
		{
			ID: "server-option-unknown", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`tritonserver: unrecognized option '`),
			Text:    "this tritonserver has no such option",
			Hint:    "the image is of another release than it says: name its own by --release YY.MM",
			Source:  "clearml/clearml-serving#88",
		},
	}
}

// consequenceRows are what says least: of it others are mostly the cause. Where memory is short TensorRT tells each
// tactic that it skips as an error, and builds the engine with others: after that only what it says of the engine
// counts. Of a timing cache it says first that a version does not match, as of an engine.
func consequenceRows() []Remedy {
	re := regexp.MustCompile
	return []Remedy{
		{
			ID: DiskFull, Tool: "any", Kind: pipeline.Environment,
			Pattern: re(`[Nn]o space left on device|[Dd]isk quota exceeded`),
			Text:    "the disk is full",
			Hint:    FreeCacheDisk,
			Source:  "errno(3): ENOSPC, EDQUOT",
		},
		{
			ID: "engine-not-saved", Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`Saving engine to file failed`),
			Text:    "trtexec could not write the engine's file",
			Hint:    "check the space on the disk of the cache and the rights to it, or name another with --cache-dir",
			Source:  "testdata/trtexec-10.6-unwritable-output.log",
		},
		{
			ID: GPUOutOfMemory, Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`Cuda failure: out of memory|Cuda Runtime \(out of memory\)` +
				`|Cuda Error in allocate: 2 \(out of memory\)|Error Code \d+: OutOfMemory`),
			Text:   "the GPU has too little free memory",
			Hint:   FreeGPUMemory,
			Source: "testdata/trtexec-10.6-oom-build.log, testdata/trtexec-10.6-oom-load.log; NVIDIA/TensorRT#840, #3017",
		},
		{
			ID: "timing-cache-refused", Tool: "TensorRT", Kind: pipeline.ContainerFailed,
			Pattern: re(`TimingCache creation failed|Timing cache header mismatch|The timing cache will not be used`),
			Text:    "TensorRT does not take the timing cache: it is another TensorRT's, or of another GPU",
			Hint:    "run again: the kernels are then timed anew",
			Source: "samples/common/sampleEngines.cpp of NVIDIA/TensorRT (the first is fatal, the others are not); " +
				"NVIDIA/TensorRT#3566; lightvector/KataGo#739",
		},
		{
			ID: "engine-of-other-tensorrt", Tool: "TensorRT", Kind: pipeline.ContainerFailed,
			Pattern: re(`Version tag does not match|not compatible with this version of TensorRT, expecting library version`),
			Text:    "the engine was built by another TensorRT than the server's",
			Hint:    OneRelease,
			Source: "triton-inference-server/tensorrtllm_backend#190; triton-inference-server/server#4956; " +
				"NVIDIA/TensorRT#2195; pytorch/TensorRT#1059",
		},
		{
			ID: "magic-tag", Tool: "TensorRT", Kind: pipeline.ContainerFailed,
			Pattern: re(`Magic tag does not match|magicTagRead == kMAGIC_TAG failed`),
			Text:    "TensorRT was given a file that is no engine of its",
			Hint:    OneRelease + "; build it anew by --force build-engine",
			Source: "triton-inference-server/server#3173; triton-inference-server/dali_backend#87; " +
				"ultralytics/ultralytics#21513",
		},
		{
			ID: "library-missing", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`unable to load (shared|backend) library: |\.so[.0-9]*: cannot open shared object file`),
			Text:    "a library is missing in the image",
			Hint:    "the image is not whole: pull it again, or take NVIDIA's own of a release (--release YY.MM)",
			Source: "triton-inference-server/server#7576; triton-inference-server/tensorrtllm_backend#545; " +
				"the local server image without LD_LIBRARY_PATH, seen",
		},
		{
			ID: "onnx-unreadable", Tool: "trtexec", Kind: pipeline.ContainerFailed,
			Pattern: re(`Failed to parse ONNX model from file: `),
			Text:    "trtexec cannot read the ONNX model",
			Hint:    "export it anew by --force export-onnx",
			Source:  "testdata/trtexec-10.6-missing-onnx.log",
		},
		{
			ID: "engine-unreadable", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`unable to load plan file`),
			Text:    "the server cannot load the engine's file",
			Hint:    "build it anew by --force build-engine",
			Source:  "testdata/tritonserver-missing-plan.log",
		},
		{
			ID: "server-crashed", Tool: "tritonserver", Kind: pipeline.ContainerFailed,
			Pattern: re(`^Signal \(11\) received\.`),
			Text:    "the server crashed",
			Hint: "run again; if it comes again, take another --release, " +
				"and send a report with what `dalirun doctor --bundle FILE` writes",
			Source: "triton-inference-server/server#4956",
		},
		{ // its banner, which comes with every start on a host of an older driver, also where all works
			ID: "driver-too-old", Tool: "nvidia_entrypoint.sh", Kind: pipeline.ContainerFailed,
			Pattern: re(`compatibility mode is UNAVAILABLE`),
			Text:    "the host's NVIDIA driver is older than the image was built for",
			Hint:    UpdateDriver,
			Source:  "NVIDIA/nvidia-docker#1479; NVIDIA/TensorRT-LLM#23",
		},
	}
}
