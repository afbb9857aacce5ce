package steps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const gpuLine = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-b2b10123-4567-89ab-cdef-0123456789ab)"

// listsGPU is nvidia-smi -L in a container with one GPU.
func listsGPU(_ context.Context, spec container.Spec, out container.Streams) int {
	if spec.GPUs == "" || !slices.Equal(spec.Command, []string{"-L"}) {
		return 9
	}
	fmt.Fprintln(out.Stdout, gpuLine)
	return 0
}

func TestGPUsAreProven(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.run(t, t.Context(), steps.IDServe); err != nil {
				t.Fatal(err)
			}
			told := slices.Contains(w.payloads, pipeline.Payload(pipeline.Line{Text: "the container sees " + gpuLine}))
			var want any
			if w.options.Lane == steps.GPU {
				want = []string{gpuLine}
			}
			if diff := cmp.Diff(want, w.result(steps.ResultGPUs)); diff != "" || told != (want != nil) {
				t.Errorf("told of in a line: %t; result (-want +got):\n%s", told, diff)
			}
		})
	}
}

// TestGPUsAreNotSeen checks the container that was started without what it was to get, before a model is loaded in vain.
func TestGPUsAreNotSeen(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		smi  containertest.Program
		tail []string
	}{
		"no devices": {prints(9, "No devices were found"), []string{"No devices were found"}},
		"no driver": {
			prints(9, "", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."),
			[]string{"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."},
		},
		"nothing": {prints(0), nil},
		"list without GPUs": {func(_ context.Context, _ container.Spec, out container.Streams) int {
			fmt.Fprintln(out.Stdout, "No devices found.")
			return 0
		}, []string{"No devices found."}},
		"not there": {prints(127), []string{"nvidia-smi is not in the container"}},
		"no program": {prints(126, "OCI runtime exec failed: exec format error"), []string{
			"OCI runtime exec failed: exec format error", "nvidia-smi is not in the container",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.make(t, steps.IDServe)
			w.instead(steps.IDServe, hangs(make(chan struct{}))) // who waits for it to be live has not seen what is wrong
			w.smi = tt.smi
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.Environment)
			if f.Error() != "the container does not see the GPU that was asked for" ||
				!strings.Contains(f.Hint, "docker run --rm --gpus=all "+w.options.Release.ServerRef("")+" nvidia-smi") {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			if diff := cmp.Diff(tt.tail, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			w.undo(t)
		})
	}
}

// TestGPUsCannotBeAsked checks that the proof is not waited for without end, and that its failure is told by its reason.
func TestGPUsCannotBeAsked(t *testing.T) {
	t.Parallel()
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := gpuNGC(t)
			w.make(t, steps.IDServe)
			w.instead(steps.IDServe, hangs(make(chan struct{})))
			w.smi = func(ctx context.Context, _ container.Spec, _ container.Streams) int {
				<-ctx.Done()
				return 137
			}
			began := time.Now()
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.Environment)
			if f.Error() != "nvidia-smi in the server's container did not end within 10s" || f.Hint == "" || time.Since(began) != 10*time.Second {
				t.Errorf("got %q with the hint %q after %s", f, f.Hint, time.Since(began))
			}
			w.undo(t)
		})
	})
	t.Run("server exits", func(t *testing.T) {
		t.Parallel()
		w := gpuNGC(t)
		w.make(t, steps.IDServe)
		exit := make(chan struct{})
		w.instead(steps.IDServe, func(context.Context, container.Spec, container.Streams) int {
			<-exit
			return 1
		})
		w.smi = func(context.Context, container.Spec, container.Streams) int { t.Error("it was run"); return 0 }
		w.machine.Runtime = lateExec{w.fake, exit}
		f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
		if f.Error() != "tritonserver exited with status 1" {
			t.Errorf("got %q", f)
		}
	})
	t.Run("engine dies", func(t *testing.T) {
		t.Parallel()
		w := gpuNGC(t)
		w.make(t, steps.IDServe)
		w.machine.Runtime = dies{w.fake}
		if err := w.run(t, t.Context(), steps.IDServe); !errors.Is(err, container.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

// lateExec is a runtime whose container ends before anything can be run in it.
type lateExec struct {
	container.Runtime

	exit chan struct{}
}

func (r lateExec) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	c, err := r.Runtime.Run(ctx, spec, out)
	return lateExecContainer{c, r.exit}, err
}

type lateExecContainer struct {
	container.Container

	exit chan struct{}
}

func (c lateExecContainer) Exec(ctx context.Context, argv []string, out container.Streams) (int, error) {
	close(c.exit)
	if _, err := c.Wait(ctx); err != nil {
		return 0, err
	}
	return c.Container.Exec(ctx, argv, out)
}

// TestExactEngine checks that fp32 is what it says, so that the bounds of fp32 hold: TensorRT takes TF32 for it by default.
func TestExactEngine(t *testing.T) {
	t.Parallel()
	for name, newWorld := range map[string]func(*testing.T) *world{"25.03": gpuNGC, "21.07": tutorial} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for precision, exact := range map[release.Precision]bool{release.FP32: true, release.FP16: false} {
				w.options.Precision = precision
				args := strings.Fields(w.facts(t, steps.IDBuildEngine)["argv"])
				if slices.Contains(args, "--noTF32") != exact || slices.Contains(args, "--fp16") == exact {
					t.Errorf("%s is built with %q", precision, args)
				}
			}
		})
	}
}
