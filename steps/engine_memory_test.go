package steps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const mib = 1 << 20

// setGPUMemory sets the memory of the host's GPU, in MiB.
func (w *world) setGPUMemory(free, total int64) {
	w.tools.GPUMemory = func(context.Context) (trtexec.GPUMemory, error) {
		return trtexec.GPUMemory{Free: free * mib, Total: total * mib}, nil
	}
}

// TestGPUMemory checks what is refused before a build is begun. The figures are those of the H100's logs: 526 + 1,292 MiB before the model is
// read, and 1,053,296,128 bytes of activations for 256 pictures in fp16.
func TestGPUMemory(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		precision release.Precision
		batch     int
		free      int64 // MiB of 16,384
		want      string
		hint      string
	}{
		"fp16":             {"fp16", 256, 2823, "", ""},
		"fp16, too little": {"fp16", 256, 2822, "2.756 GiB of 16 GiB are free, and an engine for batches of up to 256 needs 2.757 GiB at least to be built", "--max-batch 145, which fits"},
		"none":             {"fp16", 256, 1000, "1000 MiB of 16 GiB are free", "--gpus device=1"},
		"not told":         {"fp16", 256, -1, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.Precision, w.target.MaxBatch, w.target.OptBatch = tt.precision, tt.batch, 1
			w.setGPUMemory(tt.free, 16384)
			if tt.free < 0 {
				w.setGPUMemory(0, 0)
			}
			err := w.run(t, t.Context(), steps.IDBuildEngine)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			f := fault(t, err, pipeline.Environment)
			if !strings.Contains(f.Error(), tt.want) || !strings.HasSuffix(f.Hint, tt.hint) {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
			}
			if slices.Contains(w.ran(), string(steps.IDBuildEngine)) {
				t.Error("a build was begun")
			}
		})
	}
}

// TestSuggestedBatchFits checks that what is suggested is then not refused.
func TestSuggestedBatchFits(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.setGPUMemory(2500, 16384)
	f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.Environment)
	if !strings.HasSuffix(f.Hint, "--max-batch 98, which fits") {
		t.Fatalf("the hint is %q", f.Hint)
	}
	w.target.MaxBatch = 98
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Error(err)
	}
}

// TestGPUOutOfMemory runs out of memory in the build: by what trtexec 10.6 said on an H100.
func TestGPUOutOfMemory(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		free int64
		hint string
	}{
		"less than was measured":   {3000, "--max-batch 128, which may fit"},
		"another process came":     {70000, "--max-batch 128, which may fit"},
		"the GPU's memory unknown": {0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.setGPUMemory(tt.free, 81079*min(tt.free, 1))
			w.make(t, steps.IDBuildEngine)
			log := says(t, 0, "", "trtexec-10.6-oom-build.log")
			w.instead(steps.IDBuildEngine, func(ctx context.Context, spec container.Spec, out container.Streams) int {
				_ = log(ctx, spec, out)
				return 1
			})
			f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			want := ""
			if tt.free > 0 {
				want = " of 79.18 GiB were free when the build began"
			}
			if !strings.Contains(f.Error(), "too little free memory") || !strings.HasSuffix(f.Error(), want) || !strings.HasSuffix(f.Hint, tt.hint) || f.Hint == "" {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			if tail := f.Tail[len(f.Tail)-1]; tail != "Cuda failure: out of memory" {
				t.Errorf("the last line is %q", tail)
			}
		})
	}
}

// TestNotTheGPUsMemory checks that the figures of the GPU's memory are told with no other failure: TensorRT passes over a kernel that the memory
// does not let it try, and says so as an error.
func TestNotTheGPUsMemory(t *testing.T) {
	t.Parallel()
	const skipped = "[E] [TRT] 2: [executionContext.cpp::ExecutionContext::470] Error Code 2: OutOfMemory (no further information)"
	errStopped := errors.New("interrupted")
	tests := map[string]containertest.Program{
		"the host's memory": func(ctx context.Context, _ container.Spec, out container.Streams) int {
			fmt.Fprintln(out.Stdout, skipped)
			containertest.OutOfMemory(ctx)
			return 137
		},
		"no end": func(ctx context.Context, _ container.Spec, out container.Streams) int {
			fmt.Fprintln(out.Stdout, skipped)
			<-ctx.Done()
			return 137
		},
		"another precision": nil, // the engine is built
		"a full disk": func(_ context.Context, _ container.Spec, out container.Streams) int {
			fmt.Fprintln(out.Stdout, skipped)
			fmt.Fprintln(out.Stdout, "[E] Saving engine to file failed.")
			return 1
		},
	}
	for name, program := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.setGPUMemory(70000, 81079)
			w.make(t, steps.IDBuildEngine)
			if program == nil {
				build := w.trtexec(fakeBuild{fp32: true})
				program = func(ctx context.Context, spec container.Spec, out container.Streams) int {
					fmt.Fprintln(out.Stdout, skipped)
					return build(ctx, spec, out)
				}
			}
			w.instead(steps.IDBuildEngine, program)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errStopped)
			if name == "no end" {
				ctx, cancel = context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errStopped)
			}
			defer cancel()
			err := w.run(t, ctx, steps.IDBuildEngine)
			if err == nil || strings.Contains(err.Error(), "iB were free") {
				t.Errorf("got %v", err)
			}
			if f, ok := errors.AsType[*pipeline.Fault](err); ok && strings.Contains(f.Hint, "--max-batch") {
				t.Errorf("the hint is %q", f.Hint)
			}
		})
	}
}

// TestGPUMemoryIsNotKnown checks that a host that cannot be asked stops nothing.
func TestGPUMemoryIsNotKnown(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.tools.GPUMemory = func(context.Context) (trtexec.GPUMemory, error) {
		return trtexec.GPUMemory{}, errors.New("nvidia-smi gave no answer")
	}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	if !w.emitted("the GPU's free memory is not known: nvidia-smi gave no answer") {
		t.Error("there is no warning")
	}
}
