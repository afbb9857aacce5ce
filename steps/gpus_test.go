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
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const gpuLine = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-b2b10123-4567-89ab-cdef-0123456789ab)"

// listsGPU is nvidia-smi -L in a container with one GPU.
func listsGPU(_ context.Context, spec container.Spec, out container.Streams) int {
	if spec.GPUs.IsZero() || !slices.Equal(spec.Command, []string{"-L"}) {
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
			emitted := slices.Contains(w.payloads, pipeline.Payload(pipeline.Line{Text: "the container sees " + gpuLine}))
			var want []string
			if w.target.Lane == target.GPU {
				want = []string{gpuLine}
			}
			gpus, _ := resultOf(t, w, result.GPUs)
			if diff := cmp.Diff(want, gpus); diff != "" || emitted != (want != nil) {
				t.Errorf("emitted as a line: %t; result (-want +got):\n%s", emitted, diff)
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
				!strings.Contains(f.Hint, "then try `fake run "+w.target.Release.ServerRef("")+" nvidia-smi -L`") {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			if diff := cmp.Diff(tt.tail, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			w.undo(t)
		})
	}
}

// TestGPUsThatWereAskedFor checks what the container sees against what was asked for.
func TestGPUsThatWereAskedFor(t *testing.T) {
	t.Parallel()
	const (
		a, b   = "GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"
		m1, m2 = "MIG-11111111-0000-0000-0000-000000000000", "MIG-GPU-22222222-0000-0000-0000-000000000000/1/0" // as drivers before R470 name one
		gpuA   = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: " + a + ")"
		gpuB   = "GPU 1: NVIDIA H100 80GB HBM3 (UUID: " + b + ")"
		mig1   = "  MIG 1g.10gb     Device  0: (UUID: " + m1 + ")"
		mig2   = "  MIG 1g.10gb     Device  1: (UUID: " + m2 + ")"
	)
	tests := map[string]struct {
		gpus  string
		uuids []string
		lists []string
		want  string // empty is served
	}{
		"all":                       {"all", []string{a, b}, []string{gpuA, gpuB}, ""},
		"all, more":                 {"all", []string{a}, []string{gpuA, gpuB}, ""},
		"all, fewer":                {"all", []string{a, b}, []string{gpuA}, `--gpus "all" is ` + a + ", " + b + ", and it sees " + a},
		"all, not known":            {"all", nil, []string{gpuB}, ""},
		"one":                       {"device=1", []string{b}, []string{gpuB}, ""},
		"another":                   {"device=1", []string{b}, []string{gpuA}, `--gpus "device=1" is ` + b + ", and it sees " + a},
		"more":                      {"device=1", []string{b}, []string{gpuA, gpuB}, `--gpus "device=1" is ` + b + ", and it sees " + a + ", " + b},
		"fewer":                     {"2", []string{a, b}, []string{gpuB}, `--gpus "2" is ` + a + ", " + b + ", and it sees " + b},
		"a count":                   {"2", nil, []string{gpuA, gpuB}, ""},
		"fewer than a count":        {"2", nil, []string{gpuA}, `--gpus "2", and it sees ` + a},
		"more than a count":         {"1", nil, []string{gpuA, gpuB}, `--gpus "1", and it sees ` + a + ", " + b},
		"fewer than are named":      {"device=0,1", nil, []string{gpuA}, `--gpus "device=0,1", and it sees ` + a},
		"MIG":                       {"device=0:1", []string{m2}, []string{gpuA, mig2}, ""},
		"MIG, another":              {"device=0:1", []string{m2}, []string{gpuA, mig1}, "is " + m2 + ", and it sees " + m1},
		"MIG, more":                 {"device=0:1", []string{m2}, []string{gpuA, mig1, mig2}, "and it sees " + m1 + ", " + m2},
		"MIG, fewer":                {"device=0:0,0:1", []string{m1, m2}, []string{gpuA, mig1}, "and it sees " + m1},
		"MIG, a whole GPU":          {"device=0", []string{a}, []string{gpuA, mig1, mig2}, ""},
		"MIG, and one on another":   {"device=0:1", []string{m2}, []string{gpuA, mig2, gpuB}, "and it sees " + m2 + ", " + b},
		"MIG, none":                 {"device=0:1", []string{m2}, []string{gpuA}, "and it sees " + a},
		"MIG, a count of instances": {"2", nil, []string{gpuA, mig1, mig2}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gpus, err := container.ParseGPUs(tt.gpus)
			if err != nil {
				t.Fatal(err)
			}
			w := gpuNGC(t)
			w.target.GPUs, w.target.GPUUUIDs = gpus, tt.uuids
			w.smi = func(_ context.Context, _ container.Spec, out container.Streams) int {
				fmt.Fprintln(out.Stdout, strings.Join(tt.lists, "\n"))
				return 0
			}
			err = w.run(t, t.Context(), steps.IDServe)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := fault(t, err, pipeline.Environment)
			if !strings.HasPrefix(f.Error(), "the container does not see the GPUs that were asked for: --gpus ") || !strings.HasSuffix(f.Error(), tt.want) {
				t.Errorf("got %q, want %q", f, tt.want)
			}
			if len(f.Tail) != len(tt.lists) || !strings.Contains(f.Hint, "--gpus device=UUID") {
				t.Errorf("the tail is %q, the hint %q", f.Tail, f.Hint)
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
		w.tools.Runner = lateExec{w.fake, exit}
		f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
		if f.Error() != "tritonserver exited with status 1" {
			t.Errorf("got %q", f)
		}
	})
	t.Run("engine dies", func(t *testing.T) {
		t.Parallel()
		w := gpuNGC(t)
		w.make(t, steps.IDServe)
		w.tools.Runner = dies{w.fake, container.ErrUnreachable}
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
				w.target.Precision = precision
				args := strings.Fields(w.facts(t, steps.IDBuildEngine)["argv"])
				if slices.Contains(args, "--noTF32") != exact || slices.Contains(args, "--fp16") == exact {
					t.Errorf("%s is built with %q", precision, args)
				}
			}
		})
	}
}
