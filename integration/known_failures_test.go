//go:build integration

package integration

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/system"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/steps"
)

// TestKnownFailures checks what a user reads of failures that need a container engine or nvidia-smi to show. The others
// are in known_failures_test.go of package steps.
//
//nolint:paralleltest // the methods are parallel
func TestKnownFailures(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("images of two releases", l.testMixedReleases)
	t.Run("no terminal", l.testNoTerminal)
	t.Run("container engine without GPUs", l.testEngineWithoutGPUs)
	t.Run("driver too old", l.testOldDriver)
	t.Run("NVIDIA_REQUIRE_CUDA", l.testRequireCUDA)
	t.Run("NVIDIA runtime refuses", testRefusingHook)
	t.Run("GPU too old", l.testOldGPU)
	t.Run("unlike GPUs", l.testUnlikeGPUs)
	t.Run("port in use", testPortInUse)
	t.Run("server crash", l.testServerCrash)
	t.Run("images larger than the disk", testLittleDisk)
}

// refused runs dalirun e2e, which must end with 3 and have run none of the steps that need a GPU.
func (l lane) refused(t *testing.T, o opts, args ...string) result {
	t.Helper()
	r := mustRun(t, 3, l.engine, o, append([]string{"e2e"}, args...)...)
	logs, err := filepath.Glob(filepath.Join(o.Dir, ".dalirun", "runs", "*", string(steps.IDServe)+".log"))
	if err != nil || len(logs) > 0 {
		t.Errorf("a server was started: %v, %v", logs, err)
	}
	return r
}

// testNoTerminal checks that the container has no terminal, and that the line to repeat it by hand asks for none: with
// one, docker run ends with "the input device is not a TTY".
func (l lane) testNoTerminal(t *testing.T) {
	t.Parallel()
	out, r := l.e2e(t, l.opts(t), 4, flags(l.variant(t, "oom"), "25.03", "--cache-dir", l.cache)...)
	if out.record(t, steps.IDBuildEngine).Terminal {
		t.Error("trtexec has a terminal")
	}
	_, line, _ := strings.Cut(r.Stderr, "repeat it by hand, until the next run: docker run ")
	line, _, _ = strings.Cut(line, "\n")
	if !strings.Contains(line, "trtexec") {
		t.Errorf("there is no line to repeat it:\n%s", r.Stderr)
	}
	for flag := range strings.FieldsSeq(line) {
		if flag == "-t" || flag == "-it" || flag == "-ti" || flag == "--tty" {
			t.Errorf("the line to repeat it asks for a terminal: %s", line)
		}
	}
}

// testMixedReleases has a server of the tutorial's release that NVIDIA has built anew with another TensorRT.
func (l lane) testMixedReleases(t *testing.T) {
	t.Parallel()
	registry := stubRegistry + "/mixed"
	l.stubs.pytorch(t, pytorchRef(registry, "21.07"), pytorch2107...)
	l.stubs.triton(t, tritonRef(registry, "21.07"), append(slices.Clone(triton2107), "TRT_VERSION=8.0.3.4")...)
	l.refused(t, l.opts(t), flags(registry, "21.07")...).says(t,
		"TensorRT 8.0.1.6 of its exporter image would build an engine that TensorRT 8.0.3.4 of its server image cannot load", "--release 2")
}

// testEngineWithoutGPUs uses this machine's container engine, where it has no nvidia runtime, no CDI devices of NVIDIA's
// and no hook. The registry does not exist, so no image of it may be asked for.
func (l lane) testEngineWithoutGPUs(t *testing.T) {
	t.Parallel()
	l.engine = mainEngine(t)
	info, err := l.engine.client(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, nvidia := info.Runtimes["nvidia"]
	listed := slices.ContainsFunc(info.DiscoveredDevices, func(device system.DeviceInfo) bool {
		_, ok := cdi.Name(device.ID)
		return ok
	})
	if nvidia || listed || host.Here().ToolkitHook() != "" {
		t.Skip("this machine's container engine gives GPUs to containers")
	}
	r := l.refused(t, l.opts(t), flags(stubRegistry+"/none", "25.03")...)
	r.says(t, "the container engine offers no GPU", "nvidia-container-toolkit", "nvidia-ctk runtime configure", "--accel cpu")
	if strings.Contains(r.Stderr, stubRegistry) {
		t.Errorf("images were asked for:\n%s", r.Stderr)
	}
}

// smiSays returns options with an nvidia-smi whose answer is changed.
func (l lane) smiSays(t *testing.T, change func(csv string) string) opts {
	t.Helper()
	dir := nvidiaSMI(t)
	file := filepath.Join(dir, "nvidia-smi-query.csv")
	csv, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(change(string(csv))), 0o644); err != nil {
		t.Fatal(err)
	}
	return opts{Dir: t.TempDir(), Path: []string{dir}}
}

func (l lane) testOldDriver(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string { return strings.ReplaceAll(csv, "580.159.04", "470.239.06") })
	r := l.refused(t, o, flags(stubRegistry+"/none", "25.03")...)
	r.says(t, "needs driver 525 or newer, and the host has 470.239.06", "--release 22.11 runs here", "update the NVIDIA driver")
	if strings.Contains(r.Stderr, stubRegistry) {
		t.Errorf("images were asked for:\n%s", r.Stderr)
	}
}

func (l lane) testOldGPU(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string { return strings.ReplaceAll(csv, ", 9.0,", ", 6.1,") })
	r := l.refused(t, o, flags(stubRegistry+"/none", "25.03")...)
	r.says(t, "it needs compute capability 7.5 or higher, and the host has a GPU of 6.1", "--release 24.02 runs here")
}

// testRequireCUDA has images that ask for a newer driver than the host's. Whether the container runtime refuses them is
// not known before, so the run begins with a warning; testRefusingHook has a runtime that refuses.
func (l lane) testRequireCUDA(t *testing.T) {
	t.Parallel()
	registry := stubRegistry + "/require"
	const require = "NVIDIA_REQUIRE_CUDA=cuda>=13.2"
	l.stubs.pytorch(t, pytorchRef(registry, "25.03"), append(slices.Clone(pytorch2503), require)...)
	l.stubs.triton(t, tritonRef(registry, "25.03"), append(slices.Clone(triton2503), require)...)
	const says = "asks for a driver with cuda>=13.2 (NVIDIA_REQUIRE_CUDA), and the host's has CUDA 13.0: container runtimes that check it refuse to start it"
	o := l.opts(t)
	if plan := mustRun(t, 0, l.engine, o, append([]string{"plan"}, flags(registry, "25.03")...)...); !strings.Contains(plan.Stdout, says) {
		t.Errorf("the plan does not tell of it:\n%s", plan.Stdout)
	}
	_, r := l.e2e(t, o, 0, flags(registry, "25.03")...) // this engine's hook checks nothing
	r.says(t, says)
}

// testLittleDisk has a registry with an image that no disk has room for: its pull must not begin.
func testLittleDisk(t *testing.T) {
	t.Parallel()
	registry := registrytest.New(t)
	registry.PushNGC(t)
	registry.Push(t, "nvidia/tritonserver:25.03-py3", registrytest.Image{Arch: runtime.GOARCH, Layers: []int64{math.MaxInt64 / 8}})
	r := mustRun(t, 3, mainEngine(t), opts{Dir: t.TempDir()}, "setup", "--accel", "cpu", "--images", "ngc", "--registry", registry.Host(), "--release", "25.03", "--weights", "random:0")
	r.says(t, ", where the container engine stores images, has ", " free, and the images have 1 EiB to download", "docker system df")
}

func (l lane) testUnlikeGPUs(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string {
		other := strings.NewReplacer("0, GPU-b2b10123", "1, GPU-c3c10123", "NVIDIA H100 80GB HBM3", "NVIDIA L4", ", 9.0,", ", 8.9,", ":00:06.0", ":00:07.0")
		return csv + other.Replace(csv)
	})
	r := l.refused(t, o, flags(stubRegistry, "25.03")...)
	r.says(t, "unlike", "NVIDIA H100 80GB HBM3", "NVIDIA L4", "--gpus device=")
	mustRun(t, 0, l.engine, o, append([]string{"plan"}, flags(stubRegistry, "25.03", "--gpus", "device=1")...)...)
}

// testRefusingHook has a container engine whose hook refuses the container, as NVIDIA's does when the image needs a newer
// driver.
func testRefusingHook(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hook string
		says []string
	}{
		"cuda": {
			"nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version, or use an earlier cuda container",
			[]string{"unsatisfied condition: cuda>=12.8", "the image asks for a newer driver than the host's", "dalirun doctor", "--release YY.MM"},
		},
		"driver updated": {
			"nvidia-container-cli: initialization error: nvml error: driver/library version mismatch",
			[]string{"the NVIDIA driver was updated, and its kernel module is still the old one", "restart the machine"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLane(t)
			hook := filepath.Join(filepath.Dir(strings.TrimPrefix(l.engine.Host, "unix://")), "bin", gpuHook)
			script := "#!/bin/sh\necho '" + test.hook + "' >&2\nexit 1\n"
			// In place of the old one at once: a script that is written to cannot be run.
			if err := errors.Join(os.WriteFile(hook+".new", []byte(script), 0o755), os.Rename(hook+".new", hook)); err != nil {
				t.Fatal(err)
			}
			l.refused(t, l.opts(t), flags(stubRegistry, "25.03")...).says(t, test.says...)
		})
	}
}

func (l lane) testServerCrash(t *testing.T) {
	t.Parallel()
	_, r := l.e2e(t, l.opts(t), 5, flags(l.variant(t, "die"), "25.03", "--cache-dir", l.cache)...)
	r.says(t, "tritonserver exited with status 139: the server crashed", "Signal (11) received.", "dalirun doctor --bundle", "repeat it by hand, until the next run: docker run")
}
