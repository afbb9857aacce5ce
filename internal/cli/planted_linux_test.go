package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/internal/tooltest"
)

// planted is a fault as CI sees them.
type planted struct {
	name string
	// plant makes the world in which the fault is. The engine starts from what it returns.
	plant func(t *testing.T, p *place) world
	args  string
	code  ExitCode

	// What the record alone has to say.
	id        string
	turn      cause.Turn
	retryable bool
	says      string // in the sentence
	step      string
}

// place is where a run with a fault stands.
type place struct {
	dir    string
	env    map[string]string
	fake   func(*containertest.Fake)                   // changes the container engine before it starts
	mount  string                                      // options of a disk of its own at dir/disk
	before func(t *testing.T, p *place)                // called after a run that is to go well, before the one that is recorded
	during func(t *testing.T, p *place, cmd *exec.Cmd) // called while the program that hangs is at work
	engine *dockertest.Engine
}

const (
	h100         = "0, GPU-b2b10123-43d8-7094-32ab-39106cb54c35, NVIDIA H100 80GB HBM3, 580.159.04, 81559, 81000, 9.0, Disabled, 00000000:00:06.0, Default"
	cpuRun       = "e2e --accel cpu --weights random:0"
	gpuRun       = "e2e --accel gpu --weights random:0 --release 25.03"
	plantedToken = "glpat-0123456789abcdefghij"
)

// withGPU puts an nvidia-smi that says rows, and lists processes, on the PATH.
func (p *place) withGPU(t *testing.T, row, processes string) {
	t.Helper()
	bin := filepath.Join(p.dir, "bin")
	script := `#!/bin/sh
case "$*" in
--query-gpu=*) echo '` + row + `' ;;
--query-compute-apps=*) ;;
*-x*) echo '<nvidia_smi_log><gpu><processes>` + processes + `</processes></gpu></nvidia_smi_log>' ;;
*) echo '| NVIDIA-SMI 580.159.04   Driver Version: 580.159.04   CUDA Version: 13.0 |' ;;
esac
`
	if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, "nvidia-smi"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	p.env["PATH"] = bin + ":" + p.env["PATH"]
}

// gpuWorld is one in which a GPU run can begin.
func gpuWorld(t *testing.T, p *place, processes string) world {
	t.Helper()
	p.withGPU(t, h100, processes)
	w := world{registry: errNoRegistry, packages: true, runtimes: []string{"nvidia"}}
	p.fake = func(f *containertest.Fake) {
		env := map[string]string{"TRT_VERSION": "10.9.0.34", "NVIDIA_TRITON_SERVER_VERSION": "25.03", "TRITON_SERVER_VERSION": "2.56.0", "CUDA_VERSION": "12.8.1.012"}
		for _, name := range []string{"pytorch", "tritonserver"} {
			f.AddLocal("nvcr.io/nvidia/"+name+":25.03-py3", containertest.Image{Image: container.Image{Env: env, Arch: "amd64"}, Main: w.run})
		}
	}
	return w
}

// printing lets a program print a recording, or a text, and end with an error.
func printing(t *testing.T, w world, program, text string) func(context.Context, container.Spec, container.Streams) int {
	t.Helper()
	return func(ctx context.Context, spec container.Spec, out container.Streams) int {
		if !slices.ContainsFunc(spec.Command, func(arg string) bool { return strings.Contains(path.Base(arg), program) }) {
			return w.run(ctx, spec, out)
		}
		fmt.Fprintln(out.Stderr, text)
		return 1
	}
}

// onGPU is a GPU run in which trtexec prints a text and fails.
func onGPU(text, processes, kernel string) func(*testing.T, *place) world {
	return func(t *testing.T, p *place) world {
		t.Helper()
		w := gpuWorld(t, p, processes)
		if kernel != "" {
			p.env["TEST_ROOT"] = filepath.Join(p.dir, "root")
			if err := errors.Join(os.MkdirAll(filepath.Dir(kmsg(p)), 0o755), os.WriteFile(kmsg(p), []byte("6,1,1,-;before\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		add := p.fake
		p.fake = func(f *containertest.Fake) {
			add(f)
			failing := saying(t, p, kernel, printing(t, w, "trtexec", text))
			image, err := f.Resolve(t.Context(), "nvcr.io/nvidia/tritonserver:25.03-py3")
			if err != nil {
				t.Error(err)
			}
			for _, name := range []string{"pytorch", "tritonserver"} {
				f.AddLocal("nvcr.io/nvidia/"+name+":25.03-py3", containertest.Image{Image: container.Image{Env: image.Env, Arch: "amd64"}, Main: failing})
			}
		}
		return w
	}
}

// kmsg is the kernel's log of a place.
func kmsg(p *place) string { return filepath.Join(p.env["TEST_ROOT"], "dev", "kmsg") }

// saying has the kernel say a line when a program fails.
func saying(t *testing.T, p *place, kernel string, program containertest.Program) containertest.Program {
	t.Helper()
	return func(ctx context.Context, spec container.Spec, out container.Streams) int {
		code := program(ctx, spec, out)
		if code == 0 || kernel == "" {
			return code
		}
		log, err := os.OpenFile(kmsg(p), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = log.WriteString("3,2,2,-;" + kernel + "\n")
		}
		if err := errors.Join(err, log.Close()); err != nil {
			t.Error(err)
		}
		return code
	}
}

// onCPU is a CPU run in which a program prints a text and fails.
func onCPU(program, text string) func(*testing.T, *place) world {
	return func(t *testing.T, p *place) world {
		t.Helper()
		w := stockedWorld()
		p.fake = func(f *containertest.Fake) {
			f.OnBuild = func(context.Context, container.BuildSpec, func(container.Progress)) (containertest.Image, error) {
				return containertest.Image{Main: printing(t, w, program, text)}, nil
			}
		}
		return w
	}
}

func stockedWorld() world { return world{registry: errNoRegistry, packages: true} }

// outOfMemory is a CPU run in which a program's memory is used up.
func outOfMemory(program string) func(*testing.T, *place) world {
	return func(_ *testing.T, p *place) world {
		w := stockedWorld()
		p.fake = func(f *containertest.Fake) {
			f.OnBuild = func(context.Context, container.BuildSpec, func(container.Progress)) (containertest.Image, error) {
				return containertest.Image{Main: func(ctx context.Context, spec container.Spec, out container.Streams) int {
					if !strings.Contains(strings.Join(spec.Command, " "), program) {
						return w.run(ctx, spec, out)
					}
					containertest.OutOfMemory(ctx)
					<-ctx.Done()
					return 0
				}}, nil
			}
		}
		return w
	}
}

// pulling is a run with NVIDIA's images on the CPU lane whose pull fails with an error.
func pulling(text string) func(*testing.T, *place) world {
	return func(*testing.T, *place) world { return world{registry: errors.New(text)} }
}

// asking is a run whose registry answers with a status.
func asking(status int) func(*testing.T, *place) world {
	return func(t *testing.T, p *place) world {
		t.Helper()
		s := registrytest.New(t)
		s.Status(status)
		p.env["DALIRUN_REGISTRY"] = s.Host()
		return world{registry: fmt.Errorf("the registry answers with status %d", status)}
	}
}

// during is a CPU run to which something happens while a program is at work.
func during(program string, do func(t *testing.T, p *place, cmd *exec.Cmd)) func(*testing.T, *place) world {
	return func(_ *testing.T, p *place) world {
		p.during = do
		return world{registry: errNoRegistry, packages: true, hangs: program, begun: make(chan struct{})}
	}
}

func signaled(s os.Signal) func(*testing.T, *place, *exec.Cmd) {
	return func(t *testing.T, _ *place, cmd *exec.Cmd) {
		t.Helper()
		t.Helper()
		time.Sleep(time.Second) // so that the record has what came before
		if err := cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
}

// shifted is a tensor whose channels and values are those of another preprocessing.
func shifted(order [3]int, offset float32) func() []float32 {
	return func() []float32 {
		want := tensor()
		plane := len(want) / 3
		got := make([]float32, len(want))
		for c := range 3 {
			for i := range plane {
				got[c*plane+i] = want[order[c]*plane+i] + offset
			}
		}
		return got
	}
}

func faultsPlanted() []planted {
	const ngc = "setup --accel cpu --images ngc --release 25.03 --weights random:0"
	const other = `<process_info><pid>4711</pid><process_name>python3 train.py</process_name><used_memory>70000 MiB</used_memory></process_info>`
	recording := func(name string) string { return strings.TrimSpace(tooltest.Output(name)) }
	return []planted{
		{"no container engine", func(_ *testing.T, p *place) world {
			p.env["DOCKER_HOST"] = "unix://" + p.dir + "/none.sock"
			return world{}
		}, cpuRun, 3, "engine-missing", cause.Environment, false, "", ""},
		{"container engine that fails", func(*testing.T, *place) world { return world{failure: errors.New("the store is broken")} }, cpuRun, 3, "engine-failing", cause.Environment, false, "", ""},
		{"container engine restarted", during("export_onnx.py", func(_ *testing.T, p *place, _ *exec.Cmd) { p.engine.Die() }), cpuRun, -1, "engine-died", cause.Infrastructure, true, "", ""},
		{"killed job", during("export_onnx.py", signaled(syscall.SIGKILL)), cpuRun, -1, "killed", cause.Infrastructure, true, "", "export-onnx"},
		{"cancelled job", during("export_onnx.py", signaled(syscall.SIGTERM)), cpuRun, 143, "cancelled", cause.Infrastructure, true, "", ""},

		{"registry 401", asking(401), "setup --accel cpu --images ngc --release 25.03 --weights random:0", 3, "registry-denied", cause.Environment, false, "", ""},
		{"registry 404", asking(404), ngc, 3, "image-missing", cause.Environment, false, "", ""},
		{"no lock where one is to be kept to", func(*testing.T, *place) world { return stockedWorld() }, cpuRun + " --frozen", 3, "lock-differs", cause.Product, false, "", ""},
		{"registry 429", pulling("toomanyrequests: You have reached your pull rate limit"), ngc, 3, "registry-busy", cause.Infrastructure, true, "", ""},
		{"registry timeout", pulling(`Get "https://registry.example/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`), ngc, 3, "registry-unreachable", cause.Infrastructure, true, "", ""},
		{"registry 503", pulling("received unexpected HTTP status: 503 Service Unavailable"), ngc, 3, "registry-unreachable", cause.Infrastructure, true, "", ""},
		{"proxy that rewrites TLS", pulling(`Get "https://registry.example/v2/": x509: certificate signed by unknown authority`), ngc, 3, "tls-untrusted", cause.Environment, false, "", ""},
		{"clock back an hour", pulling(`Get "https://registry.example/v2/": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-28T01:00:00Z is before 2026-11-28T02:00:00Z`), ngc, 3, "clock-wrong", cause.Environment, false, "", ""},
		{"weights' host away", func(*testing.T, *place) world { return stockedWorld() }, "setup --accel cpu", 3, "weights-unreachable", cause.Infrastructure, true, "", "weights"},
		{"package mirror away", func(_ *testing.T, p *place) world {
			p.fake = func(f *containertest.Fake) {
				f.OnBuild = func(_ context.Context, _ container.BuildSpec, tell func(container.Progress)) (containertest.Image, error) {
					for _, line := range []string{"Err:1 http://mirror.example/debian bookworm InRelease", "  Temporary failure resolving 'mirror.example'", "E: Unable to locate package python3"} {
						tell(container.Progress{Text: line})
					}
					return containertest.Image{}, errors.New("The command '/bin/sh -c apt-get update' returned a non-zero code: 100")
				}
			}
			return stockedWorld()
		}, cpuRun, 3, "packages-unreachable", cause.Infrastructure, true, "", ""},

		{"engine's disk full", pulling("write /var/lib/docker/tmp/GetImageBlob1: no space left on device"), ngc, 3, "engine-disk-full", cause.Environment, false, "", ""},
		{"cache's disk full", func(_ *testing.T, p *place) world {
			p.mount, p.env["XDG_CACHE_HOME"] = "size=8k", filepath.Join(p.dir, "disk")
			return stockedWorld()
		}, cpuRun, 3, "disk-full", cause.Environment, false, "", ""},
		{"truncated cache", func(_ *testing.T, p *place) world {
			p.before = func(t *testing.T, p *place) {
				t.Helper()
				found, err := filepath.Glob(filepath.Join(p.env["XDG_CACHE_HOME"], "dalirun", "entries", "*", "*", "files", "model.onnx"))
				if err != nil || len(found) != 1 {
					t.Fatalf("%q, %v", found, err)
				}
				if err := errors.Join(os.Chmod(found[0], 0o600), os.Truncate(found[0], 3)); err != nil {
					t.Fatal(err)
				}
			}
			return stockedWorld()
		}, cpuRun, 0, "cache-damaged", cause.Environment, false, "", ""},
		{"disk full in a container", onCPU("export_onnx.py", "OSError: [Errno 28] No space left on device"), cpuRun, 3, "disk-full", cause.Environment, false, "", "export-onnx"},
		{"read-only workspace", func(_ *testing.T, p *place) world {
			p.mount, p.env["DALIRUN_WORKSPACE"] = "ro", filepath.Join(p.dir, "disk", ".dalirun")
			return stockedWorld()
		}, cpuRun, 3, "disk-read-only", cause.Environment, false, "", ""},
		{"port taken", func(t *testing.T, p *place) world {
			t.Helper()
			p.env["DALIRUN_GRPC_PORT"] = takenPortOf(t)
			return stockedWorld()
		}, cpuRun, 3, "port-taken", cause.Environment, false, "", ""},

		{"no GPU", func(*testing.T, *place) world { return stockedWorld() }, "e2e --require-gpu", 3, "no-gpu", cause.Environment, false, "", ""},
		{"driver updated under its kernel module", func(t *testing.T, p *place) world {
			t.Helper()
			p.withGPU(t, h100, "")
			script := "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
			if err := os.WriteFile(filepath.Join(p.dir, "bin", "nvidia-smi"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			return stockedWorld()
		}, "e2e --require-gpu", 3, "driver-broken", cause.Environment, false, "", ""},
		{"driver too old", func(t *testing.T, p *place) world {
			t.Helper()
			p.withGPU(t, strings.Replace(h100, "580.159.04", "470.57.02", 1), "")
			return world{registry: errNoRegistry, runtimes: []string{"nvidia"}}
		}, gpuRun, 3, "driver-too-old", cause.Environment, false, "", ""},
		{"engine without GPUs", func(t *testing.T, p *place) world {
			t.Helper()
			p.withGPU(t, h100, "")
			return stockedWorld()
		}, gpuRun, 3, "engine-without-gpu", cause.Environment, false, "", ""},
		{"GPU busy", onGPU(recording("trtexec-10.6-oom-build.log"), other, ""), gpuRun, 4, "gpu-busy", cause.Infrastructure, true, "pid 4711, 70000 MiB", "build-engine"},
		{"GPU held by another job", func(t *testing.T, p *place) world {
			t.Helper()
			gpu := host.GPU{UUID: "GPU-b2b10123-43d8-7094-32ab-39106cb54c35"}
			lease, err := host.Leases{Folder: p.dir}.Take(t.Context(), []host.GPU{gpu}, host.Holder{User: "maria", Doing: "builds an engine"}, 0, host.LeaseObserver{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(lease.Release)
			return gpuWorld(t, p, "")
		}, gpuRun + " --gpu-wait 0s", 3, "gpu-held", cause.Infrastructure, true, "", "build-engine"},
		{"GPU too small", onGPU(recording("trtexec-10.6-oom-build.log"), "", ""), gpuRun, 4, "gpu-out-of-memory", cause.Environment, false, "", "build-engine"},
		{"GPU lost", onGPU("[E] Error[1]: CUDA error", "", "NVRM: Xid (PCI:0000:00:06): 79, pid=1234, GPU has fallen off the bus."), gpuRun, 4, "gpu-lost", cause.Infrastructure, true, "", "build-engine"},
		{"GPU faulty", onGPU("CUDA error: uncorrectable ECC error encountered", "", ""), gpuRun, 3, "gpu-faulty", cause.Infrastructure, true, "", "build-engine"},
		{"engine for another TensorRT", onGPU("[E] Unknown option: --skipInference", "", ""), gpuRun, 4, "images-unfit", cause.Product, false, "", "build-engine"},
		{"model that trtexec cannot read", onGPU(recording("trtexec-10.6-wrong-input-name.log"), "", ""), gpuRun, 4, "artifact-broken", cause.Product, false, "", "build-engine"},

		{"out of memory in a build", outOfMemory("export_onnx.py"), cpuRun, 4, "out-of-memory", cause.Environment, false, "", "export-onnx"},
		{"out of memory in serving", outOfMemory("tritonserver"), cpuRun, 5, "out-of-memory", cause.Environment, false, "", "serve"},
		{"truncated engine", onCPU("tritonserver", recording("tritonserver-truncated-plan.log")), cpuRun, 5, "artifact-broken", cause.Product, false, "", "serve"},
		{"server that ends", onCPU("tritonserver", "nothing that anybody knows"), cpuRun, 5, "server-fails", cause.Product, false, "", "serve"},
		{"program that fails", onCPU("export_onnx.py", "error: the tensor is upside down"), cpuRun, 4, "step-fails", cause.Product, false, "", "export-onnx"},
		{"wrong flag", func(*testing.T, *place) world { return stockedWorld() }, cpuRun + " --max-batch 16 --opt-batch 32", 2, "configuration", cause.Product, false, "", ""},
		{"wrong mean", func(*testing.T, *place) world {
			w := stockedWorld()
			w.tensor = shifted([3]int{0, 1, 2}, -0.4)
			return w
		}, cpuRun, 6, "preprocessing-differs", cause.Product, false, "the mean is another one: values are off by -0.400", "verify"},
		{"swapped channels", func(*testing.T, *place) world {
			w := stockedWorld()
			w.tensor = shifted([3]int{2, 1, 0}, 0)
			return w
		}, cpuRun, 6, "preprocessing-differs", cause.Product, false, "the channels are in another order", "verify"},
		{"other weights", func(*testing.T, *place) world {
			w := stockedWorld()
			w.wrong = true
			return w
		}, cpuRun, 6, "model-differs", cause.Product, false, "", "verify"},
	}
}

// TestPlantedFaults: from the record alone, read by a program that has not seen the run, the cause of a fault is named, and whose turn it is.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	all := faultsPlanted()
	const least = 30
	if len(all) < least {
		t.Errorf("%d faults are planted, want %d", len(all), least)
	}
	for _, f := range all {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			f.check(t)
		})
	}
}

// begin makes the place of a fault.
func (f planted) begin(t *testing.T) (*place, world) {
	t.Helper()
	p := &place{dir: t.TempDir()}
	first, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	p.env = map[string]string{
		"PATH": first + ":/usr/bin:/bin", "HOME": filepath.Join(p.dir, "home"), "XDG_CACHE_HOME": filepath.Join(p.dir, "cache"),
		"DALIRUN_WORKSPACE": filepath.Join(p.dir, ".dalirun"), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9",
		"GORACE": "atexit_sleep_ms=0", "CI_JOB_TOKEN": plantedToken, "TEST_MOUNT": filepath.Join(p.dir, "disk"), "WORK": p.dir, "GOCOVERDIR": p.dir,
	}
	if err := errors.Join(os.MkdirAll(p.env["HOME"], 0o700), os.MkdirAll(p.env["TEST_MOUNT"], 0o700)); err != nil {
		t.Fatal(err)
	}
	w := f.plant(t, p)
	w.tb = t
	fake := w.fake()
	if p.fake != nil {
		p.fake(fake)
	}
	if p.env["DOCKER_HOST"] == "" {
		p.engine = dockertest.New(t, fake)
		p.env["DOCKER_HOST"] = p.engine.Host()
	}
	return p, w
}

func (f planted) check(t *testing.T) {
	t.Helper()
	p, w := f.begin(t)
	file := filepath.Join(p.dir, "r"+record.Suffix)
	if p.before != nil {
		if code, said := f.run(t, p, w, strings.Fields(f.args)); code != ExitOK {
			t.Fatalf("the run before: exit code %d\n%s", code, said)
		}
		p.before(t, p)
	}
	code, said := f.run(t, p, w, append(strings.Fields(f.args), "--record", file))
	if f.code >= 0 && code != f.code {
		t.Errorf("exit code %d, want %d\n%s", code, f.code, said)
	}
	// In another place, by another process, with nothing of the run but the record.
	elsewhere := t.TempDir()
	moved := filepath.Join(elsewhere, "red"+record.Suffix)
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	show := exec.CommandContext(t.Context(), "/proc/self/exe", "show", moved, "--format", "json")
	show.Args[0], show.Dir = "dalirun", elsewhere
	show.Env = []string{"HOME=" + elsewhere, "DOCKER_HOST=unix://" + elsewhere + "/no.sock", "GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + elsewhere}
	text, err := show.Output()
	if err != nil {
		t.Fatalf("show: %v\n%s", err, said)
	}
	var s record.Summary
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, said)
	}
	if s.Cause == nil && len(s.Noticed) == 1 && f.code == ExitOK { // of a run that passed all the same
		s.Cause = &s.Noticed[0]
	}
	if s.Cause == nil {
		t.Fatalf("%s\n%s", text, said)
	}
	got := *s.Cause
	if got.ID != f.id || got.Turn != f.turn || got.Retryable != f.retryable || string(got.Step) != f.step && f.step != "" || !strings.Contains(got.Text, f.says) {
		t.Errorf("the record says %s, %s, retryable %v, step %q: %s\nseen: %s\nand the run:\n%s", got.ID, got.Turn, got.Retryable, got.Step, got.Text, got.Seen, said)
	}
	if strings.Contains(string(text), plantedToken) {
		t.Error("the planted token is in what show says")
	}
	noToken(t, moved)
}

// What failed on a GPU cannot be run again without one, and it is said why; what was compared there can.
func TestRerunWithoutGPU(t *testing.T) {
	t.Parallel()
	all := faultsPlanted()
	f := all[slices.IndexFunc(all, func(f planted) bool { return f.name == "GPU too small" })]
	p, w := f.begin(t)
	file := filepath.Join(p.dir, "r"+record.Suffix)
	if code, said := f.run(t, p, w, append(strings.Fields(f.args), "--record", file, "--record-model")); code != f.code {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	first, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	p.env["PATH"] = first + ":/usr/bin:/bin"
	code, said := f.run(t, p, w, []string{"reproduce", file, "--level", "rerun"})
	if code != ExitEnvironment || !strings.Contains(said, "rerun: cannot be: needs a GPU: the run failed in build-engine, and this machine has none") {
		t.Errorf("exit code %d\n%s", code, said)
	}
}

// On a machine with a GPU all of a GPU run is run again: it fails in the same way, or it is said what is another one.
func TestRerunOnGPU(t *testing.T) {
	t.Parallel()
	all := faultsPlanted()
	f := all[slices.IndexFunc(all, func(f planted) bool { return f.name == "model that trtexec cannot read" })]
	p, w := f.begin(t)
	file := filepath.Join(p.dir, "r"+record.Suffix)
	if code, said := f.run(t, p, w, append(strings.Fields(f.args), "--record", file)); code != f.code {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	again := []string{"reproduce", file, "--level", "rerun", "--cache-dir", filepath.Join(p.dir, "another")}
	if code, said := f.run(t, p, w, again); code != ExitOK || !strings.Contains(said, "rerun: reproduced\n") {
		t.Errorf("exit code %d\n%s", code, said)
	}
	p.withGPU(t, strings.NewReplacer("H100 80GB HBM3", "H200", "580.159.04", "590.48.01").Replace(h100), "")
	code, said := f.run(t, p, w, again)
	if code != ExitOK || !strings.Contains(said, "driver: 580.159.04 → 590.48.01\n") || !strings.Contains(said, "NVIDIA H100 80GB HBM3 → NVIDIA H200\n") {
		t.Errorf("exit code %d\n%s", code, said)
	}
}

// noToken fails if a member of a record has the planted token.
func noToken(t *testing.T, path string) {
	t.Helper()
	r, err := record.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range r.Files() {
		if content, err := r.File(name); err != nil || strings.Contains(string(content), plantedToken) {
			t.Errorf("%s has the planted token (%v)", name, err)
		}
	}
}

// run runs dalirun as a process of its own.
func (f planted) run(t *testing.T, p *place, w world, args []string) (code ExitCode, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0], cmd.Dir = "dalirun", p.dir
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if p.mount != "" {
		cmd.Args[0] = "mounted"
		cmd.Env = append(cmd.Env, "TEST_MOUNT_OPTIONS="+p.mount)
		out, err := mounttest.Run(t, cmd)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return ExitCode(exit.ExitCode()), out
		}
		return 0, out
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if p.during != nil {
		select {
		case <-w.begun:
			p.during(t, p, cmd)
		case <-time.After(time.Minute):
			t.Error("the program that hangs was not begun")
		}
	}
	_ = cmd.Wait() // its code is looked at
	return ExitCode(cmd.ProcessState.ExitCode()), out.String()
}

// takenPortOf returns a port that is taken while the test lasts.
func takenPortOf(t *testing.T) string {
	t.Helper()
	s := registrytest.New(t)
	_, port, ok := strings.Cut(s.Host(), ":")
	if !ok {
		t.Fatal(s.Host())
	}
	return port
}

// programs are those that a test can run as processes of their own.
func programs() map[string]func() {
	return map[string]func(){"dalirun": runDalirun, "mounted": runMounted}
}

// runMounted runs dalirun where a folder is a disk of its own, which is read-only if the options say so.
func runMounted() {
	dir := os.Getenv("TEST_MOUNT")
	if err := mounttest.Mount(dir, strings.TrimPrefix(os.Getenv("TEST_MOUNT_OPTIONS"), "ro")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv("TEST_MOUNT_OPTIONS") == "ro" {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	runDalirun()
}

// The page that tells users of causes has each fault that is planted, and what is said of it.
func TestPlantedFaultsPage(t *testing.T) {
	t.Parallel()
	const name = docsDir + "/reproduce.md"
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const marker = "<!-- Written by `go test ./internal/cli -run TestPlantedFaultsPage -update`. -->\n"
	before, kept, ok := strings.Cut(string(page), marker)
	if !ok {
		t.Fatalf("%s has no %s", name, marker)
	}
	var table strings.Builder
	table.WriteString("\n| fault | exit code | cause | turn | run it again? |\n|---|---|---|---|---|\n")
	for _, f := range faultsPlanted() {
		code, again := strconv.Itoa(int(f.code)), "no"
		if f.code < 0 {
			code = "any"
		}
		if f.retryable {
			again = "yes"
		}
		fmt.Fprintf(&table, "| %s | %s | `%s` | %s | %s |\n", f.name, code, f.id, f.turn, again)
	}
	if *update {
		if err := os.WriteFile(name, []byte(before+marker+table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(kept, table.String()); diff != "" {
		t.Errorf("%s is not what -update writes (-kept +made):\n%s", name, diff)
	}
}
