//go:build integration

package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dimage "github.com/docker/docker/api/types/image"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestPains shows, for rows of the list of known pains, what a user is told where a container engine or nvidia-smi is part of it. The
// others are in TestPains of the steps.
//
//nolint:paralleltest // the methods are parallel
func TestPains(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("pain 10: no terminal", l.painNoTerminal)
	t.Run("pain 14: engine without GPUs", l.painEngineWithoutGPUs)
	t.Run("pain 15: driver too old", l.painOldDriver)
	t.Run("pain 16: NVIDIA_REQUIRE_CUDA", painRequirement)
	t.Run("pain 17: GPU too old", l.painOldGPU)
	t.Run("pain 18: unlike GPUs", l.painUnlikeGPUs)
	t.Run("pain 31: crash of the server", l.painCrash)
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

// painNoTerminal has no terminal, as CI, and neither asks for one: "the input device is not a TTY". Its line to repeat by hand does not.
func (l lane) painNoTerminal(t *testing.T) {
	t.Parallel()
	out, r := l.e2e(t, l.opts(t), 4, flags(l.variant(t, "oom"), "25.03", "--cache-dir", l.cache)...)
	r.says(t, "trtexec exited with status 1: the GPU has too little free memory", "hint: stop what else uses the GPU", "--max-batch", "repeat it by hand: docker run --rm ")
	_, line, _ := strings.Cut(r.Stderr, "repeat it by hand: ")
	line, _, _ = strings.Cut(line, "\n")
	for flag := range strings.FieldsSeq(line) {
		if flag == "-t" || flag == "-it" || flag == "-ti" || flag == "--tty" {
			t.Errorf("the line to repeat it asks for a terminal: %s", line)
		}
	}
	if states := out.states(); states[steps.IDExportONNX] == pipeline.Failed {
		t.Errorf("the steps ended as %v", states)
	}
}

// painEngineWithoutGPUs is this machine's container engine, where it has neither the hook nor CDI devices.
func (l lane) painEngineWithoutGPUs(t *testing.T) {
	t.Parallel()
	e := mainEngine(t)
	info, err := e.client(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.Runtimes["nvidia"]; ok {
		t.Skip("this machine's container engine gives GPUs to containers")
	}
	registry := stubRegistry + "/pain14"
	s := stubs{e, l.stubs.binary}
	refs := []string{pytorchRef(registry, "25.03"), tritonRef(registry, "25.03")}
	s.pytorch(t, refs[0], pytorch2503...)
	s.triton(t, refs[1], triton2503...)
	c := e.client(t)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		for _, ref := range refs {
			if _, err := c.ImageRemove(ctx, ref, dimage.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	})
	l.engine = e
	r := l.refused(t, l.opts(t), flags(registry, "25.03")...)
	r.says(t, "could not select device driver", "the container engine cannot give GPUs to containers", "NVIDIA Container Toolkit", "nvidia-ctk runtime configure", "--accel cpu")
}

// smiSays returns the folder of an nvidia-smi that says of each H100 something else.
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

func (l lane) painOldDriver(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string { return strings.ReplaceAll(csv, "580.159.04", "470.239.06") })
	r := l.refused(t, o, flags(stubRegistry+"/none", "25.03")...)
	r.says(t, "needs driver 525 or newer, and the host has 470.239.06", "--release 2", "update the NVIDIA driver")
	if strings.Contains(r.Stderr, stubRegistry) {
		t.Errorf("images were asked for:\n%s", r.Stderr)
	}
}

func (l lane) painOldGPU(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string { return strings.ReplaceAll(csv, ", 9.0,", ", 6.1,") })
	r := l.refused(t, o, flags(stubRegistry+"/none", "25.03")...)
	r.says(t, "it needs compute capability 7.5 or higher, and the host has a GPU of 6.1", "--release 2")
}

func (l lane) painUnlikeGPUs(t *testing.T) {
	t.Parallel()
	o := l.smiSays(t, func(csv string) string {
		other := strings.NewReplacer("0, GPU-b2b10123", "1, GPU-c3c10123", "NVIDIA H100 80GB HBM3", "NVIDIA L4", ", 9.0,", ", 8.9,", ":00:06.0", ":00:07.0")
		return csv + other.Replace(csv)
	})
	r := l.refused(t, o, flags(stubRegistry, "25.03")...)
	r.says(t, "unlike", "NVIDIA H100 80GB HBM3", "NVIDIA L4", "--gpus device=")
	mustRun(t, 0, l.engine, o, append([]string{"plan"}, flags(stubRegistry, "25.03", "--gpus", "device=1")...)...)
}

// painRequirement has an engine whose hook refuses, as NVIDIA's does when the image asks for more than the driver has.
func painRequirement(t *testing.T) {
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

func (l lane) painCrash(t *testing.T) {
	t.Parallel()
	_, r := l.e2e(t, l.opts(t), 5, flags(l.variant(t, "die"), "25.03", "--cache-dir", l.cache)...)
	r.says(t, "tritonserver exited with status 139: the server crashed", "Signal (11) received.", "dalirun doctor --bundle", "repeat it by hand: docker run")
}
