package cause

import (
	"regexp"
	"slices"
	"strings"
)

// toolRules are of messages that package remedy knows, and of GPUs and drivers.
func toolRules() []rule {
	re := regexp.MustCompile
	is := func(ids ...string) func(string) bool {
		return func(id string) bool { return slices.Contains(ids, id) }
	}
	others := func(e Evidence) bool { return len(e.OthersOnGPU) > 0 }
	naming := func(e Evidence, text string) string { return text + ": " + strings.Join(e.OthersOnGPU, ", ") }
	busy := Cause{
		ID: "gpu-busy", Turn: Infrastructure, Retryable: true, Text: "other programs have the GPU, or most of its memory",
	}
	noMemory := is("gpu-out-of-memory", "dali-out-of-memory")
	driverTooOld := Cause{
		ID: "driver-too-old", Turn: Environment, Text: "the NVIDIA driver is older than what is to run needs",
	}
	gpuUnsupported := Cause{
		ID: "gpu-unsupported", Turn: Environment, Text: "the release does not support the GPU of this machine",
	}
	driverBroken := Cause{
		ID: "driver-broken", Turn: Environment,
		Text: "the NVIDIA driver is not there, not loaded, or another one than its kernel module",
	}
	engineWithoutGpu := Cause{
		ID: "engine-without-gpu", Turn: Environment, Text: "the container engine gives no GPU to containers",
	}
	return []rule{
		{
			cause: Cause{
				ID: "out-of-memory", Turn: Environment,
				Text: "a container had no memory left: its limit is too low, or the machine's memory",
			},
			says: re(`was killed: it needs more memory than there is|it was killed for memory`),
		},
		{
			cause: Cause{
				ID: "container-killed", Turn: Infrastructure, Retryable: true,
				Text: "a container was killed from outside: by a person, by a container engine that was restarted, or by the " +
					"kernel for lack of memory",
			},
			says: re(`exited with status 1(30|37|43)\b`),
		},
		{
			cause: Cause{
				ID: "gpu-held", Turn: Infrastructure, Retryable: true,
				Text: "another job built or measured on the GPU for as long as was waited",
			},
			is: []string{isHeld},
		},
		{cause: busy, ofGPU: true, remedy: noMemory, when: others, tell: naming},
		{cause: busy, ofGPU: true, remedy: is("gpu-busy")},
		{
			cause: Cause{
				ID: "gpu-out-of-memory", Turn: Environment,
				Text: "the GPU has too little memory for these batches, and no other program is known to use it",
			},
			ofGPU:  true,
			remedy: noMemory,
		},
		{
			cause: Cause{
				ID: "gpu-lost", Turn: Infrastructure, Retryable: true, Text: "the container lost its GPU while it worked",
			},
			ofGPU:  true,
			remedy: is("gpu-lost"),
		},
		{
			cause: Cause{
				ID: "gpu-lost", Turn: Infrastructure, Retryable: true,
				Text: "the GPU fell off its bus: the machine has to be restarted, and another one can run this meanwhile",
			},
			says: re(`GPU is lost|has fallen off the bus`),
		},
		{
			cause: Cause{
				ID: "gpu-faulty", Turn: Infrastructure, Retryable: true,
				Text: "the GPU's memory is faulty: the machine is to be taken out of service, and another one can run this",
			},
			ofGPU:  true,
			remedy: is("gpu-faulty"),
		},
		{
			cause:  driverTooOld,
			ofGPU:  true,
			remedy: is("driver-too-old", "cuda-required", "driver-insufficient"),
		},
		{
			cause:  driverTooOld,
			checks: []string{"release", "images"}, says: re(`needs (an? )?.*driver|driver .*(older|too old)`),
		},
		{
			cause:  gpuUnsupported,
			checks: []string{"release", "images"}, says: re(`compute capability`),
		},
		{
			cause:  driverBroken,
			ofGPU:  true,
			remedy: is("driver-mismatch", "driver-not-loaded", "driver-missing"),
		},
		{
			cause: driverBroken,
			is:    []string{isHostNoGPU}, says: re(`version mismatch|communicate with the NVIDIA driver|no answer`),
		},
		{
			cause: Cause{ID: "no-gpu", Turn: Environment, Text: "the machine has no GPU that can be used"},
			is:    []string{isHostNoGPU},
		},
		{
			cause:  Cause{ID: "no-gpu", Turn: Environment, Text: "the GPU that was asked for cannot be used"},
			checks: []string{"gpu"},
		},
		{
			cause: engineWithoutGpu,
			is:    []string{isNoGPU},
		},
		{
			cause:  engineWithoutGpu,
			checks: []string{"container gpu"},
		},
		{
			cause: Cause{
				ID: "engine-without-gpu", Turn: Environment, Text: "the container sees no GPU that can be used",
			},
			ofGPU: true,
			remedy: is("no-gpu-driver-in-engine", "cdi-device-unknown", "gpu-unknown", "gpu-not-seen", "tensorrt-without-gpu",
				"dali-without-gpu", "no-cuda-device"),
		},
		{
			cause:  gpuUnsupported,
			ofGPU:  true,
			remedy: is("gpu-unsupported", "nvml-partial"),
		},
		{
			cause: Cause{
				ID: "shared-memory-full", Turn: Environment, Text: "the container's shared memory is too small",
			},
			remedy: is("shared-memory-full"),
		},
		{
			cause: Cause{
				ID: "disk-full", Turn: Environment, Text: "a disk of this machine is full, or a quota is used up",
			},
			remedy: is("disk-full"),
		},
		{
			cause:  Cause{ID: "port-taken", Turn: Environment, Text: "another program has a port of the server"},
			remedy: is("port-in-use"),
		},
		{
			cause: Cause{
				ID: "server-crashed", Turn: Product, Text: "tritonserver crashed",
			},
			remedy: is("server-crashed"),
		},
		{
			cause: Cause{
				ID: "images-unfit", Turn: Product, Text: "the images do not fit each other, or hold other than they say",
			},
			remedy: is("engine-of-other-tensorrt", "engine-of-other-gpu", "magic-tag", "dali-operator-unknown", "dali-too-old",
				"static-tls", "option-unknown", "fp16-unknown", "server-option-unknown", "library-missing", "trtexec-missing",
				"tritonserver-missing", "entrypoint-misused", "python-module-missing"),
		},
		{
			cause: Cause{
				ID: "artifact-broken", Turn: Product, Text: "a file that a step made cannot be used by the next one",
			},
			remedy: is("engine-cut-short", "input-name", "dali-file-missing", "version-folder-missing", "dims-mismatch",
				"onnx-unreadable", "engine-unreadable", "timing-cache-refused"),
		},
		{
			cause: Cause{
				ID: "engine-not-saved", Turn: Environment,
				Text: "trtexec could not write its engine: the disk of the cache is full, or may not be written to",
			},
			remedy: is("engine-not-saved"),
		},
	}
}
