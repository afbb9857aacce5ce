package cause_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
)

// in is an error of a step.
func in(step pipeline.ID, kind pipeline.Kind, text string, tail ...string) error {
	return &pipeline.StepError{Step: step, Err: &pipeline.Fault{Kind: kind, Err: errors.New(text), Tail: tail}}
}

// pull is an error of a pull.
func pull(kind error, text string) error {
	return &pipeline.StepError{Step: "server-image", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: fmt.Errorf("pull registry.example/x: %w: %s", kind, text)}}
}

func disk(err error) error {
	return &pipeline.Fault{Kind: pipeline.Environment, Err: fmt.Errorf("write /cache/x: %w", err)}
}

// Each cause is found in the words and errors by which it shows itself, and nobody else is blamed for it.
func TestFind(t *testing.T) {
	t.Parallel()
	const (
		product, environment, infrastructure = cause.Product, cause.Environment, cause.Infrastructure
		docker                               = pipeline.ContainerFailed
	)
	const h100 = "00000000:06:00.0"
	offs := func(names ...parity.Name) *parity.Report {
		var r parity.Report
		for _, name := range []parity.Name{parity.Preprocessing, parity.Model, parity.Ensemble} {
			r.Comparisons = append(r.Comparisons, parity.Comparison{Name: name, OK: !slices.Contains(names, name)})
		}
		return &r
	}
	off := &pipeline.StepError{Step: "verify", Err: &pipeline.Fault{Kind: pipeline.NotVerified, Err: parity.ErrOff}}
	for _, tt := range []struct {
		err   error // nil is a run that was killed
		e     cause.Evidence
		id    string
		turn  cause.Turn
		again bool
	}{
		{nil, cause.Evidence{}, "killed", infrastructure, true},
		{nil, cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (dalirun) total-vm:1kB"}}, "host-out-of-memory", environment, false},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 137"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (tritonserver) total-vm:1kB"}}, "host-out-of-memory", environment, false},
		{in("export-onnx", docker, "export_onnx.py was killed: it needs more memory than there is"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (python3) total-vm:1kB"}}, "host-out-of-memory", environment, false},
		// Somebody else's program is killed, and the step fails on its own.
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (browser) total-vm:1kB"}}, "step-fails", product, false},
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (trtexec) total-vm:1kB"}}, "step-fails", product, false},
		{in("serve", pipeline.NotReady, "tritonserver does not answer"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (tritonserver) total-vm:1kB"}}, "model-hangs", product, false},
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{GPUs: []string{h100}, Kernel: []string{"NVRM: Xid (PCI:0000:06:00): 79, pid=1, GPU has fallen off the bus."}}, "gpu-lost", infrastructure, true},
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{GPUs: []string{h100}, Kernel: []string{"NVRM: Xid (PCI:0000:06:00): 119, pid=1, Timeout waiting for RPC from GSP"}}, "gpu-lost", infrastructure, true},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 1"), cause.Evidence{GPUs: []string{h100}, Kernel: []string{"NVRM: Xid (PCI:0000:06:00): 48, pid=1, DBE (double bit error)"}}, "gpu-faulty", infrastructure, true},
		// Another GPU's trouble, and what a program did to its GPU itself, are no excuse.
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{GPUs: []string{h100}, Kernel: []string{"NVRM: Xid (PCI:0000:07:00): 79, GPU has fallen off the bus."}}, "step-fails", product, false},
		{in("build-engine", docker, "trtexec exited with status 1"), cause.Evidence{GPUs: []string{h100}, Kernel: []string{"NVRM: Xid (PCI:0000:06:00): 31, pid=79, MMU Fault"}}, "step-fails", product, false},
		{in("verify", pipeline.NotVerified, "x"), cause.Evidence{Kernel: []string{"Out of memory: Killed process 77 (browser)"}}, "answers-differ", product, false},

		{pull(container.ErrDenied, "unauthorized: authentication required"), cause.Evidence{}, "registry-denied", environment, false},
		{pull(container.ErrDenied, "toomanyrequests: You have reached your unauthenticated pull rate limit"), cause.Evidence{}, "registry-busy", infrastructure, true},
		{pull(container.ErrRegistry, "429 Too Many Requests"), cause.Evidence{}, "registry-busy", infrastructure, true},
		{pull(container.ErrRegistry, "dial tcp: lookup registry.example: no such host"), cause.Evidence{}, "registry-unreachable", infrastructure, true},
		{pull(container.ErrRegistry, "net/http: TLS handshake timeout"), cause.Evidence{}, "registry-unreachable", infrastructure, true},
		{pull(container.ErrRegistry, "unexpected EOF"), cause.Evidence{}, "registry-unreachable", infrastructure, true},
		{pull(container.ErrRegistry, "tls: failed to verify certificate: x509: certificate is valid for proxy.corp, not registry.example"), cause.Evidence{}, "tls-untrusted", environment, false},
		{pull(container.ErrRegistry, "x509: certificate has expired or is not yet valid: current time 2025-01-01T00:00:00Z is before 2026-01-01T00:00:00Z"), cause.Evidence{}, "clock-wrong", environment, false},
		{pull(container.ErrRegistry, "proxyconnect tcp: 407 Proxy Authentication Required"), cause.Evidence{}, "proxy-denied", environment, false},
		{pull(container.ErrRegistry, `Get "https://registry.example/v2/": Proxy Authentication Required`), cause.Evidence{}, "proxy-denied", environment, false},
		{pull(container.ErrRegistry, `Get "https://registry.example/v2/": Forbidden`), cause.Evidence{}, "proxy-denied", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.NoAnswer, Text: "look up x:1: registry.example does not answer: Proxy Authentication Required"}}, cause.Evidence{Check: "images"}, "proxy-denied", environment, false},
		{pull(container.ErrRegistry, "error parsing HTTP 429 response body: invalid character '<'"), cause.Evidence{}, "registry-busy", infrastructure, true},
		{pull(container.ErrNotFound, "manifest unknown"), cause.Evidence{}, "image-missing", environment, false},
		{pull(container.ErrNoSpace, "no space left on device"), cause.Evidence{}, "engine-disk-full", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.NotFound, Text: "x"}}, cause.Evidence{Check: "images"}, "image-missing", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.Forbidden, Text: "x"}}, cause.Evidence{Check: "images"}, "registry-denied", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.RateLimited, Text: "x"}}, cause.Evidence{Check: "images"}, "registry-busy", infrastructure, true},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.Failing, Text: "x"}}, cause.Evidence{Check: "images"}, "registry-unreachable", infrastructure, true},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.Untrusted, Text: "x"}}, cause.Evidence{Check: "images"}, "tls-untrusted", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &registry.Error{Kind: registry.Unreadable, Text: "x"}}, cause.Evidence{Check: "images"}, "registry-unfit", environment, false},
		{in("server-image", pipeline.Environment, "x/tritonserver:25.03-py3: its digest in /w/dalirun.lock, sha256:ab, is not in its registry any more"), cause.Evidence{}, "image-gone", environment, false},
		{in("server-image", pipeline.Environment, "x:1: of its digest in /w/dalirun.lock, sha256:ab, the registry has lost sha256:cd"), cause.Evidence{}, "image-gone", environment, false},
		{in("exporter-image", pipeline.Environment, "--frozen: the run is not that of /w/dalirun.lock:\npackage exporter linux/amd64 torch: 1 → 2"), cause.Evidence{}, "lock-differs", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("--frozen: there is no dalirun.lock")}, cause.Evidence{Check: "lock"}, "lock-differs", product, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("--frozen: the run is not that of /w/dalirun.lock:\npicture: a → b")}, cause.Evidence{Check: "lock"}, "lock-differs", product, false},
		// Of a run without a GPU nothing that is said of one is a reason, and a warning never is.
		{in("serve", pipeline.NotReady, "tritonserver is not live after 100ms: it did not end within 100ms"), cause.Evidence{NoGPU: true, Log: "CUDA driver version is insufficient for CUDA runtime version"}, "model-hangs", product, false},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 137"), cause.Evidence{Log: "CUDA driver version is insufficient for CUDA runtime version"}, "container-killed", infrastructure, true},
		{in("weights", pipeline.Environment, "download the pretrained weights: GET https://x/w.pth: after 3 MB: unexpected EOF"), cause.Evidence{}, "weights-unreachable", infrastructure, true},
		{in("weights", pipeline.Environment, "download the pretrained weights: GET https://x/w.pth: 403 Forbidden"), cause.Evidence{}, "weights-refused", environment, false},
		{in("weights", pipeline.Environment, "download the pretrained weights: GET https://x/w.pth: 429 Too Many Requests"), cause.Evidence{}, "weights-unreachable", infrastructure, true},
		{in("weights", pipeline.Environment, "download the pretrained weights: 7 bytes with the SHA-256 ab came from x; expected were 8 bytes with the SHA-256 cd"), cause.Evidence{}, "weights-altered", infrastructure, true},
		{in("server-image", pipeline.Environment, "build x: exit 1", "ReadTimeoutError(\"HTTPSConnectionPool(host='pypi.org'\")"), cause.Evidence{}, "packages-unreachable", infrastructure, true},
		{in("server-image", pipeline.Environment, "build x: exit 1", "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self signed certificate"), cause.Evidence{}, "tls-untrusted", environment, false},

		{&pipeline.StepError{Step: "weights", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: fmt.Errorf("download the pretrained weights: write /c/w.pth: %w", syscall.ENOSPC)}}, cause.Evidence{}, "disk-full", environment, false},
		{&pipeline.StepError{Step: "weights", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: fmt.Errorf("download the pretrained weights: write /c/w.pth: %w", syscall.EACCES)}}, cause.Evidence{}, "no-permission", environment, false},
		{disk(syscall.ENOSPC), cause.Evidence{}, "disk-full", environment, false},
		{disk(syscall.EDQUOT), cause.Evidence{}, "disk-full", environment, false},
		{disk(syscall.EROFS), cause.Evidence{}, "disk-read-only", environment, false},
		{disk(syscall.EIO), cause.Evidence{}, "disk-broken", environment, false},
		{disk(syscall.EACCES), cause.Evidence{}, "no-permission", environment, false},
		{disk(host.ErrSilentDisk), cause.Evidence{}, "disk-silent", environment, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 1", "OSError: [Errno 5] Input/output error"), cause.Evidence{}, "disk-broken", environment, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 1", "OSError: [Errno 122] Disk quota exceeded"), cause.Evidence{}, "disk-full", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("20 GB are free, and the images need 24 GB")}, cause.Evidence{Check: "image disk"}, "engine-disk-full", environment, false},

		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrUnreachable}, cause.Evidence{Check: "container engine"}, "engine-missing", environment, false},
		{&pipeline.StepError{Step: "serve", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrUnreachable}}, cause.Evidence{}, "engine-died", infrastructure, true},
		{in("reference", docker, "output of dalirun-reference-Z-59190d: unexpected EOF"), cause.Evidence{}, "engine-died", infrastructure, true},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 143"), cause.Evidence{}, "container-killed", infrastructure, true},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 139"), cause.Evidence{}, "server-fails", product, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrPermission}, cause.Evidence{}, "engine-denied", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrSettings}, cause.Evidence{}, "engine-settings", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrFailing}, cause.Evidence{}, "engine-failing", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrNoInit}, cause.Evidence{}, "engine-without-init", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrPortTaken}, cause.Evidence{}, "port-taken", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrNoAddress}, cause.Evidence{}, "no-address", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("port 8001 is in use by nginx")}, cause.Evidence{Check: "ports"}, "port-taken", environment, false},

		{&pipeline.Fault{Kind: pipeline.Environment, Err: &host.NoGPUError{Reason: "nvidia-smi says: No devices were found"}}, cause.Evidence{Check: "gpu"}, "no-gpu", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &host.NoGPUError{Reason: "nvidia-smi says: Unable to determine the device handle for GPU 0000:06:00.0: GPU is lost. Reboot the system to recover this GPU"}}, cause.Evidence{Check: "gpu"}, "gpu-lost", infrastructure, true},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: &host.NoGPUError{Reason: "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch"}}, cause.Evidence{Check: "gpu"}, "driver-broken", environment, false},
		{in("build-engine", pipeline.Environment, "start a container", "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8"), cause.Evidence{}, "driver-too-old", environment, false},
		{in("build-engine", pipeline.Environment, "start a container", "nvidia-container-cli: initialization error: nvml error: driver not loaded"), cause.Evidence{}, "driver-broken", environment, false},
		{&pipeline.StepError{Step: "serve", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: container.ErrNoGPU}}, cause.Evidence{}, "engine-without-gpu", environment, false},
		{in("serve", pipeline.NotReady, "tritonserver exited with status 1"), cause.Evidence{Log: "Cuda failure: all CUDA-capable devices are busy or unavailable"}, "gpu-busy", infrastructure, true},
		{&pipeline.StepError{Step: "build-engine", Err: &pipeline.Fault{Kind: pipeline.Environment, Err: &host.BusyError{}}}, cause.Evidence{}, "gpu-held", infrastructure, true},
		{in("serve", docker, "x"), cause.Evidence{Log: "Can't allocate 1048576 bytes on device"}, "gpu-out-of-memory", environment, false},
		{in("serve", docker, "x"), cause.Evidence{Log: "Can't allocate 1048576 bytes on device", OthersOnGPU: []string{"pid 1, 9 MiB"}}, "gpu-busy", infrastructure, true},
		{in("build-engine", docker, "x"), cause.Evidence{Log: "Failed to initialize NVML: Unknown Error"}, "gpu-lost", infrastructure, true},
		{in("build-engine", docker, "x"), cause.Evidence{Log: tooltest.Output("trtexec-10.6-unwritable-output.log")}, "engine-not-saved", environment, false},
		{in("serve", pipeline.NotReady, "x"), cause.Evidence{Log: tooltest.Output("tritonserver-without-gpus.log")}, "engine-without-gpu", environment, false},
		{in("serve", pipeline.NotReady, "x"), cause.Evidence{Log: "failed to start HTTP service: Unavailable - Socket '0.0.0.0:8000' already in use"}, "port-taken", environment, false},
		{in("serve", pipeline.NotReady, "x"), cause.Evidence{Log: "Signal (11) received."}, "server-crashed", product, false},
		{in("serve", pipeline.NotReady, "x"), cause.Evidence{Log: "insufficient shared memory (shm)"}, "shared-memory-full", environment, false},
		{in("export-onnx", docker, "export_onnx.py was killed: it needs more memory than there is"), cause.Evidence{}, "out-of-memory", environment, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("release 25.03: it needs compute capability 7.5, and the GPU has 6.1")}, cause.Evidence{Check: "release"}, "gpu-unsupported", environment, false},

		{off, cause.Evidence{Parity: offs(parity.Preprocessing, parity.Ensemble)}, "preprocessing-differs", product, false},
		{off, cause.Evidence{Parity: offs(parity.Preprocessing, parity.Model, parity.Ensemble)}, "preprocessing-differs", product, false},
		{off, cause.Evidence{Parity: offs(parity.Model, parity.Ensemble)}, "model-differs", product, false},
		{off, cause.Evidence{Parity: offs(parity.Ensemble)}, "ensemble-differs", product, false},
		{&pipeline.Fault{Kind: pipeline.Usage, Err: errors.New("x")}, cause.Evidence{}, "configuration", product, false},
		// Words of a name, and what a program says beside a known outcome, are no reasons.
		{&pipeline.Fault{Kind: pipeline.Usage, Err: errors.New("--weights No space left on device.pth: it is no PyTorch checkpoint")}, cause.Evidence{}, "configuration", product, false},
		{in("verify", pipeline.NotVerified, "x"), cause.Evidence{Log: "CUDA error: out of memory"}, "answers-differ", product, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 1", "KeyError in '/in/Input/output error/x'"), cause.Evidence{Names: []string{"/in/Input/output error/x"}}, "step-fails", product, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 1", "KeyError in 'No space left on device'"), cause.Evidence{Names: []string{"/data/No space left on device"}}, "step-fails", product, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 1"), cause.Evidence{Log: "bad: Connection reset.pth: CUDA error: out of memory.pth", Names: []string{"CUDA error: out of memory.pth"}}, "step-fails", product, false},
		{in("export-onnx", docker, "export_onnx.py exited with status 137"), cause.Evidence{Names: []string{"137", "cpu"}}, "container-killed", infrastructure, true},
		{in("serve", pipeline.NotReady, "model dali is still loading: it did not end within 5m0s"), cause.Evidence{}, "model-hangs", product, false},
		{in("export-onnx", docker, "export_onnx.py did not end within 15m0s"), cause.Evidence{}, "step-hangs", product, false},
		{in("export-onnx", docker, "export_onnx.py: /c/resnet18.pth does not fit ResNet50: missing layer1.0.conv3.weight"), cause.Evidence{Names: []string{"/c/resnet18.pth"}}, "weights-unfit", product, false},
		{in("reference", docker, "reference.py: /c/w.pth has NaN or infinity in fc.weight: the file is damaged, or its training diverged"), cause.Evidence{}, "weights-unfit", product, false},
		{in("reference", docker, "reference.py: /c/w.pth is not a PyTorch checkpoint of tensors alone (x); if it holds more, save model.state_dict() alone"), cause.Evidence{}, "weights-unfit", product, false},
		{in("reference", docker, "reference.py: /c/w.pth holds a list, want a dictionary of tensors: save model.state_dict()"), cause.Evidence{}, "weights-unfit", product, false},
		{&pipeline.Fault{Kind: pipeline.GateFailed, Err: errors.New("x")}, cause.Evidence{}, "gate", product, false},
		{&pipeline.Fault{Kind: pipeline.Environment, Err: errors.New("x")}, cause.Evidence{}, "environment", environment, false},
		{errors.New("x"), cause.Evidence{}, "unknown", cause.Unknown, false},
	} {
		e := tt.e
		if tt.err != nil {
			f := cause.FailureOf(tt.err, 3)
			text, err := json.Marshal(f) // as a record has it
			if err != nil {
				t.Fatal(err)
			}
			e.Failure = &cause.Failure{}
			if err := json.Unmarshal(text, e.Failure); err != nil {
				t.Fatal(err)
			}
		}
		got := cause.Find(e)
		if got.ID != tt.id || got.Turn != tt.turn || got.Retryable != tt.again || got.Text == "" || strings.HasSuffix(got.Text, ".") {
			t.Errorf("%v, %+v\nis %+v\nwant %s, %s, %v", tt.err, tt.e, got, tt.id, tt.turn, tt.again)
		}
	}
}

// A signal is one whatever it broke.
func TestFindCancelled(t *testing.T) {
	t.Parallel()
	f := cause.FailureOf(in("serve", pipeline.NotReady, "tritonserver exited with status 137"), 143)
	kernel := []string{"Out of memory: Killed process 77 (tritonserver) total-vm:1kB"}
	if got := cause.Find(cause.Evidence{Failure: &f, Kernel: kernel}); got.ID != "cancelled" || got.Step != "serve" {
		t.Errorf("%+v", got)
	}
}

// What a run met is told, each once, whatever it came to; other warnings are no news.
func TestNotices(t *testing.T) {
	t.Parallel()
	got := cause.Notices([]string{
		"cache entry is damaged: model.onnx has another size; it is built again",
		"cache entry is damaged: model.dali was changed; it is built again",
		"others compute where the engine is built: python3 (PID 500, 1.506 GiB) on GPU 0; the engine is used, but the times of its kernels are not kept: the next build times them anew",
		"waits for GPU 0 (NVIDIA H100), on which PID 123 of maria builds an engine; for 20m0s at most",
		`the pretrained weights cannot be had: Head "https://x": dial tcp: lookup x: no such host`,
		"the run is not that of /w/dalirun.lock: picture: a → b",
		"seeded random weights are used: the comparison with PyTorch holds, but labels mean nothing",
	})
	var ids []string
	for _, c := range got {
		ids = append(ids, c.ID+" "+string(c.Turn))
		if c.Seen == "" || c.Text == "" {
			t.Errorf("%+v", c)
		}
	}
	want := []string{"cache-damaged environment", "gpu-shared infrastructure", "gpu-waited infrastructure", "weights-unreachable infrastructure", "lock-differs environment"}
	if !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
}
