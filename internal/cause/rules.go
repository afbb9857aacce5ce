package cause

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/pipeline"
)

// rules returns the table. Of several rows that match, the first one is used: what ended the run from outside comes
// first, then what a tool or the system says in words that are known, then what kind of error it is.
func rules() []rule {
	return slices.Concat(
		endRules(), networkRules(), diskRules(), engineRules(), toolRules(), verifyRules(), kindRules())
}

// endRules are of a run that others ended.
func endRules() []rule {
	re := regexp.MustCompile
	// of a program, and not of what was found out before one began; one that was killed has none
	worked := []pipeline.Kind{pipeline.Unclassified, pipeline.ContainerFailed, pipeline.NotReady}
	return []rule{
		{
			cause: Cause{
				ID: "gpu-lost", Turn: Infrastructure, Retryable: true,
				Text: "the GPU fell off its bus: the machine has to be restarted, and another one can run this meanwhile",
			},
			// https://docs.nvidia.com/deploy/xid-errors: 79 is "GPU has fallen off the bus"; 48, 63, 64, 94 and 95 are of
			// memory, 119 and 120 of the GPU's own processor.
			kernel: re(`NVRM: Xid .*: (79|119|120),`), kinds: worked,
		},
		{
			cause: Cause{
				ID: "gpu-faulty", Turn: Infrastructure, Retryable: true,
				Text: "the GPU's memory is faulty: the machine is to be taken out of service, and another one can run this",
			},
			kernel: re(`NVRM: Xid .*: (48|63|64|94|95),`), kinds: worked,
		},
		{
			cause: Cause{
				ID: "host-out-of-memory", Turn: Environment,
				Text: "the machine ran out of memory, and the kernel killed a process",
			},
			kernel: re(`Out of memory: Killed process \d+ \((dalirun|trtexec|tritonserver|triton_python_b)`), kinds: worked,
		},
		{
			cause: Cause{
				ID: "host-out-of-memory", Turn: Environment,
				Text: "the machine ran out of memory, and the kernel killed a process",
			},
			// Whatever it was: what failed was killed too.
			kernel: re(`Out of memory: Killed process`), kinds: worked, says: re(`\bwas killed\b|status 137\b`),
		},
		{
			cause: Cause{
				ID: "killed", Turn: Infrastructure, Retryable: true,
				Text: "the run was killed, or its machine went away: the record ends in its middle",
			},
			killed: true,
		},
		{
			cause: Cause{
				ID: "cancelled", Turn: Infrastructure, Retryable: true,
				Text: "somebody, or the CI runner, ended the run",
			},
			when: func(e Evidence) bool {
				const signals = 128
				return e.Failure.ExitCode > signals
			},
		},
	}
}

// networkRules are of registries, mirrors and what stands between.
func networkRules() []rule {
	re := regexp.MustCompile
	// what differs from a lock without anybody having changed what is asked for
	ofMachine := re(`(?s)--frozen: .*\n(image|package) `)
	denied := Cause{
		ID: "registry-denied", Turn: Environment,
		Text: "the registry does not give the image to this machine: credentials are missing, wrong or too weak",
	}
	missing := Cause{
		ID: "image-missing", Turn: Environment, Text: "the registry has no such image",
	}
	busy := Cause{
		ID: "registry-busy", Turn: Infrastructure, Retryable: true,
		Text: "the registry limits how much is asked of it, and the limit is reached",
	}
	unreached := Cause{
		ID: "registry-unreachable", Turn: Infrastructure, Retryable: true,
		Text: "the registry gave no answer, or failed",
	}
	untrusted := Cause{
		ID: "tls-untrusted", Turn: Environment,
		Text: "a certificate is not trusted here, as behind a proxy that opens TLS",
	}
	return []rule{
		{
			cause: Cause{
				ID: "clock-wrong", Turn: Environment,
				Text: "a certificate is not valid at the time that this machine's clock shows",
			},
			says: re(`certificate has expired or is not yet valid|certificate is not yet valid`),
		},
		{
			cause: untrusted,
			says: re(`x509: |certificate is not trusted|self[- ]signed certificate` +
				`|CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError`),
		},
		{cause: untrusted, registry: []registry.Kind{registry.Untrusted}},
		{
			cause: Cause{ID: "proxy-denied", Turn: Environment, Text: "a proxy wants to know who asks, or forbids it"},
			says: re(`(?i)Proxy Authentication Required|proxyconnect .*(forbidden|denied)` +
				`|(": |does not answer: )Forbidden\b`),
		},
		{cause: busy, registry: []registry.Kind{registry.RateLimited}},
		{
			cause: busy,
			says:  re(`(?i)toomanyrequests|too many requests|\b429\b|rate limit`), is: []string{isRegistry, isDenied},
		},
		{
			cause:    denied,
			registry: []registry.Kind{registry.Unauthorized, registry.Forbidden, registry.BadCredentials},
		},
		{cause: denied, is: []string{isDenied}},
		{
			cause: Cause{
				ID: "image-gone", Turn: Environment, Text: "the registry has lost an image, or a part of it, that the lock names",
			},
			says: re(`is not in its registry any more|the registry has lost `),
		},
		{
			cause: Cause{
				ID: "lock-differs", Turn: Environment,
				Text: "what the run would use is not what its lock says, or there is no lock, and it was to keep to one",
			},
			checks: []string{"lock"}, says: ofMachine,
		},
		{
			cause: Cause{
				ID: "lock-differs", Turn: Product,
				Text: "what the run was asked for is not what its lock says, or there is no lock, and it was to keep to one",
			},
			checks: []string{"lock"},
		},
		{
			cause: Cause{
				ID: "lock-differs", Turn: Environment,
				Text: "what the run would use is not what its lock says, or there is no lock, and it was to keep to one",
			},
			says: ofMachine,
		},
		{
			cause: Cause{
				ID: "lock-differs", Turn: Product,
				Text: "what the run was asked for is not what its lock says, or there is no lock, and it was to keep to one",
			},
			says: re(`^(\S+: )?--frozen: `),
		},
		{cause: missing, registry: []registry.Kind{registry.NotFound, registry.OtherArch}},
		{cause: missing, is: []string{isNotFound}, says: re(`\bpull `)},
		{
			cause: Cause{
				ID: "registry-unfit", Turn: Environment,
				Text: "what answers in the place of the registry is none, or speaks no TLS",
			},
			registry: []registry.Kind{registry.Insecure, registry.Unreadable},
		},
		{cause: unreached, registry: []registry.Kind{registry.Failing, registry.NoAnswer}},
		{cause: unreached, is: []string{isRegistry}},
		{
			cause: Cause{
				ID: "weights-altered", Turn: Infrastructure, Retryable: true,
				Text: "what was downloaded are not the weights: it was cut off or altered on its way",
			},
			says: re(`download the pretrained weights: .*SHA-256`),
		},
		{
			cause: Cause{
				ID: "weights-refused", Turn: Environment,
				Text: "the host of the pretrained weights, or what stands before it, does not give them to this machine",
			},
			says: re(`download the pretrained weights: .*: 4(0[0-79]|1\d) `),
		},
		{
			cause: Cause{
				ID: "weights-unreachable", Turn: Infrastructure, Retryable: true,
				Text: "the host of the pretrained weights gave no answer, or failed",
			},
			says: re(`download the pretrained weights: |pretrained weights .*(cannot be reached|no answer)`),
		},
		{
			cause: Cause{
				ID: "packages-unreachable", Turn: Infrastructure, Retryable: true,
				Text: "a package index or mirror gave no answer while a local image was built",
			},
			says: re(`Temporary failure resolving|Could not resolve|Could not connect to |Failed to fetch http` +
				`|Unable to connect to |Unable to fetch some archives|ReadTimeoutError|NewConnectionError|ProtocolError` +
				`|Connection (timed out|failed|reset)|Network is unreachable|Hash Sum mismatch` +
				`|50[234] +(Bad|Service|Gateway)|does not have a Release file`),
			kinds: []pipeline.Kind{pipeline.Environment}, inStep: true,
		},
	}
}

// diskRules are of disks and files of this host, and of the container engine's disk.
func diskRules() []rule {
	re := regexp.MustCompile
	return []rule{
		{
			cause: Cause{
				ID: "engine-disk-full", Turn: Environment,
				Text: "the disk is full on which the container engine stores images and containers",
			},
			is: []string{isEngineFull},
		},
		{
			cause: Cause{
				ID: "engine-disk-full", Turn: Environment,
				Text: "the images do not fit on the disk of the container engine",
			},
			checks: []string{"image disk"},
		},
		{
			cause: Cause{ID: "disk-full", Turn: Environment, Text: "a disk of this machine is full, or a quota is used up"},
			is:    []string{isFull, isQuota},
		},
		{
			cause: Cause{ID: "disk-read-only", Turn: Environment, Text: "a file system that is written to is read-only"},
			is:    []string{isReadOnly},
		},
		{
			cause: Cause{ID: "disk-broken", Turn: Environment, Text: "a disk of this machine does not read or write"},
			is:    []string{isBroken},
		},
		{
			cause: Cause{ID: "disk-broken", Turn: Environment, Text: "a disk of this machine does not read or write"},
			says:  re(`Input/output error`),
		},
		{
			cause: Cause{ID: "disk-silent", Turn: Environment, Text: "a disk of the network gives no answer"},
			is:    []string{isSilent},
		},
	}
}

// engineRules are of the container engine.
func engineRules() []rule {
	re := regexp.MustCompile
	return []rule{
		{
			cause: Cause{
				ID: "engine-died", Turn: Infrastructure, Retryable: true,
				Text: "the container engine ended or was restarted while the run was at work",
			},
			is: []string{isUnreachable}, inStep: true,
		},
		{
			cause: Cause{
				ID: "engine-died", Turn: Infrastructure, Retryable: true,
				Text: "the container engine ended or was restarted while the run was at work",
			},
			// What a container prints breaks off before the container has ended.
			says: re(`output of \S+: .*(unexpected EOF|connection reset|broken pipe|closed network connection)`), inStep: true,
		},
		{
			cause: Cause{ID: "engine-missing", Turn: Environment, Text: "no container engine answers"},
			is:    []string{isUnreachable},
		},
		{
			cause: Cause{ID: "engine-settings", Turn: Environment, Text: "the container engine does not take these settings"},
			is:    []string{isSettings},
		},
		{
			cause: Cause{
				ID: "engine-failing", Turn: Environment, Text: "the container engine answers with an error of its own",
			},
			is: []string{isFailing},
		},
		{
			cause: Cause{
				ID: "engine-denied", Turn: Environment, Text: "this user may not talk to the container engine",
			},
			is: []string{isDeniedUser},
		},
		{
			cause: Cause{
				ID: "no-permission", Turn: Environment, Text: "this user may not read or write a file or folder that is needed",
			},
			is: []string{isPermission},
		},
		{
			cause: Cause{ID: "port-taken", Turn: Environment, Text: "another program has a port of the server"},
			is:    []string{isPortTaken},
		},
		{
			cause:  Cause{ID: "port-taken", Turn: Environment, Text: "another program has a port of the server"},
			checks: []string{"ports"}, says: re(`is in use`),
		},
		{
			cause: Cause{ID: "no-address", Turn: Environment, Text: "the machine has no such address"},
			is:    []string{isNoAddress},
		},
		{
			cause:  Cause{ID: "no-address", Turn: Environment, Text: "the machine has no such address"},
			checks: []string{"ports"}, says: re(`has no such address`),
		},
		{
			cause: Cause{ID: "engine-without-init", Turn: Environment, Text: "the container engine has no docker-init"},
			is:    []string{isNoInit},
		},
		{
			cause: Cause{
				ID: "server-there", Turn: Environment, Text: "the workspace has a server already",
			},
			says: re(`has a server already|serves already|is served already`), kinds: []pipeline.Kind{pipeline.Environment},
		},
	}
}

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
			cause: Cause{
				ID: "driver-too-old", Turn: Environment, Text: "the NVIDIA driver is older than what is to run needs",
			},
			ofGPU:  true,
			remedy: is("driver-too-old", "cuda-required", "driver-insufficient"),
		},
		{
			cause: Cause{
				ID: "driver-too-old", Turn: Environment, Text: "the NVIDIA driver is older than what is to run needs",
			},
			checks: []string{"release", "images"}, says: re(`needs (an? )?.*driver|driver .*(older|too old)`),
		},
		{
			cause: Cause{
				ID: "gpu-unsupported", Turn: Environment, Text: "the release does not support the GPU of this machine",
			},
			checks: []string{"release", "images"}, says: re(`compute capability`),
		},
		{
			cause: Cause{
				ID: "driver-broken", Turn: Environment,
				Text: "the NVIDIA driver is not there, not loaded, or another one than its kernel module",
			},
			ofGPU:  true,
			remedy: is("driver-mismatch", "driver-not-loaded", "driver-missing"),
		},
		{
			cause: Cause{
				ID: "driver-broken", Turn: Environment,
				Text: "the NVIDIA driver is not there, not loaded, or another one than its kernel module",
			},
			is: []string{isHostNoGPU}, says: re(`version mismatch|communicate with the NVIDIA driver|no answer`),
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
			cause: Cause{
				ID: "engine-without-gpu", Turn: Environment, Text: "the container engine gives no GPU to containers",
			},
			is: []string{isNoGPU},
		},
		{
			cause: Cause{
				ID: "engine-without-gpu", Turn: Environment, Text: "the container engine gives no GPU to containers",
			},
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
			cause: Cause{
				ID: "gpu-unsupported", Turn: Environment, Text: "the release does not support the GPU of this machine",
			},
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

// verifyRules are of answers that are not PyTorch's.
func verifyRules() []rule {
	off := func(name parity.Name, offs ...parity.Name) func(Evidence) bool {
		return func(e Evidence) bool {
			if e.Parity == nil {
				return false
			}
			for _, c := range e.Parity.Comparisons {
				if c.Name == name && c.OK || slices.Contains(offs, c.Name) && !c.OK {
					return false
				}
			}
			return true
		}
	}
	return []rule{
		{
			cause: Cause{ID: "preprocessing-differs", Turn: Product, Text: "DALI's tensor is not PyTorch's"},
			is:    []string{isOff}, when: off(parity.Preprocessing),
			tell: func(e Evidence, text string) string {
				if e.Preprocessing != "" {
					text += ": " + e.Preprocessing
				}
				return text
			},
		},
		{
			cause: Cause{
				ID: "model-differs", Turn: Product,
				Text: "the served model does not answer PyTorch's tensor as PyTorch does: it has other weights, another " +
					"precision, or was built wrongly",
			},
			is: []string{isOff}, when: off(parity.Model),
		},
		{
			cause: Cause{
				ID: "ensemble-differs", Turn: Product,
				Text: "preprocessing and model are right, and the ensemble of both is not: its configuration is wrong",
			},
			is: []string{isOff}, when: off(parity.Ensemble, parity.Preprocessing, parity.Model),
		},
		{
			cause: Cause{ID: "answers-differ", Turn: Product, Text: "the server's answers cannot be compared with PyTorch's"},
			kinds: []pipeline.Kind{pipeline.NotVerified},
		},
	}
}

// kindRules are what is known of an error by its kind alone.
func kindRules() []rule {
	re := regexp.MustCompile
	return []rule{
		{
			cause: Cause{
				ID: "configuration", Turn: Product, Text: "a flag, a variable, the configuration or a file that was named is wrong",
			},
			kinds: []pipeline.Kind{pipeline.Usage},
		},
		{
			cause: Cause{
				ID: "model-hangs", Turn: Product, Text: "the server, or a model in it, did not get ready in time",
			},
			kinds: []pipeline.Kind{pipeline.NotReady}, says: re(`within \d|did not|does not answer`),
		},
		{
			cause: Cause{ID: "server-fails", Turn: Product, Text: "tritonserver ended, or does not answer as it should"},
			kinds: []pipeline.Kind{pipeline.NotReady},
		},
		{
			cause: Cause{ID: "step-hangs", Turn: Product, Text: "the program of a step did not end in time"},
			kinds: []pipeline.Kind{pipeline.ContainerFailed}, says: re(`did not end within`),
		},
		{
			cause: Cause{ID: "step-fails", Turn: Product, Text: "the program of a step ended with an error"},
			kinds: []pipeline.Kind{pipeline.ContainerFailed},
		},
		{
			cause: Cause{ID: "gate", Turn: Product, Text: "a figure is worse than it may be"},
			kinds: []pipeline.Kind{pipeline.GateFailed},
		},
		{
			cause: Cause{ID: "environment", Turn: Environment, Text: "the machine lacks something, or something is in the way"},
			kinds: []pipeline.Kind{pipeline.Environment},
		},
	}
}
