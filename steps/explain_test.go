package steps_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestPathsAreTheHosts checks that an error names a file by the path that a user knows: of a stored result, and of weights of their own.
func TestPathsAreTheHosts(t *testing.T) {
	t.Parallel()
	says := prints(2, "error: /in/weights.pth is no state dict: see /in/weights.pth.old, /in/weights.pth /in/weights.pth and /in/weights.pth.")
	for name, newWorld := range map[string]func(*testing.T) *world{"stored": gpuNGC, "own": tutorial} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			path := w.make(t, steps.IDExportONNX)[pipeline.Output{Step: steps.IDWeights, Name: "weights.pth"}].Path
			if name == "own" {
				path = w.target.Weights.Path
			}
			w.instead(steps.IDExportONNX, says)
			f := fault(t, w.run(t, t.Context(), steps.IDExportONNX), pipeline.ContainerFailed)
			if want := "export_onnx.py: " + path + " is no state dict: see /in/weights.pth.old, " + path + " " + path + " and " + path + "."; path == "" || f.Error() != want {
				t.Errorf("got %q, want %q", f, want)
			}
		})
	}
}

// TestKilled checks that a kill without the kernel's notice is reported as mostly for memory, and not for certain.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.instead(steps.IDExportONNX, prints(137, "loading"))
	f := fault(t, w.run(t, t.Context(), steps.IDExportONNX), pipeline.ContainerFailed)
	if f.Error() != "export_onnx.py exited with status 137" || !strings.Contains(f.Hint, "mostly for memory; if nobody else did it: its container may use 16 GiB: --memory raises that") {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
}

// TestMemoryLimit checks that every container of a run has the requested memory limit, else the default, and that the error of
// a program that reaches it names limit and flag.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		world         func(*testing.T) *world
		memory, limit int64
		says          string
	}{
		"usual":        {cpuLocal, 0, 16 << 30, "its container may use 16 GiB: --memory raises that"},
		"asked for":    {cpuLocal, 3 << 30, 3 << 30, "its container may use 3 GiB: --memory raises that"},
		"of MiB":       {cpuLocal, 1536 << 20, 1536 << 20, "its container may use 1.5 GiB: --memory raises that"},
		"gpu":          {gpuNGC, 24 << 30, 24 << 30, "its container may use 24 GiB: --memory raises that"},
		"with a cast":  {tensorRT11, 24 << 30, 24 << 30, "its container may use 24 GiB: --memory raises that"},
		"a user's own": {tutorial, 24 << 30, 24 << 30, "its container may use 24 GiB: --memory raises that"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := c.world(t)
			w.tools.Memory = c.memory
			if err := w.run(t, t.Context(), steps.IDVerify); err != nil {
				t.Fatal(err)
			}
			specs := w.fake.Specs()
			if len(specs) < 4 {
				t.Errorf("only %d containers ran", len(specs))
			}
			for _, spec := range specs {
				if spec.Memory != c.limit {
					t.Errorf("%s has the limit %d, want %d", spec.Step, spec.Memory, c.limit)
				}
			}
			for _, id := range []pipeline.ID{steps.IDExportONNX, steps.IDServe} {
				w := c.world(t)
				w.tools.Memory = c.memory
				w.instead(id, func(ctx context.Context, _ container.Spec, _ container.Streams) int {
					containertest.OutOfMemory(ctx)
					return 137
				})
				var f *pipeline.Fault
				if err := w.run(t, t.Context(), id); !errors.As(err, &f) || !strings.HasPrefix(f.Hint, c.says) || !strings.Contains(f.Error(), "memory") {
					t.Errorf("%s ended with %v and %+v", id, err, f)
				}
			}
		})
	}
}

// TestKnownMessage checks that a known line is told of wherever it stands in the output: an unknown option comes with a flood of help,
// and tools print warnings on the way.
func TestKnownMessage(t *testing.T) {
	t.Parallel()
	help := make([]string, 300)
	for i := range help {
		help[i] = fmt.Sprintf("  --option%d   what it does", i)
	}
	const (
		unknown = "[11/22/2026-14:05:31] [E] Unknown option: --buildOnly"
		warning = "W1122 14:08:39.398219 1 pinned_memory_manager.cc:273] \"Unable to allocate pinned system memory, pinned memory pool will not be available: " +
			"CUDA driver version is insufficient for CUDA runtime version\""
	)
	tests := map[string]struct {
		lines      []string
		kind       pipeline.Kind
		says, hint string
		first      string // of the tail
	}{
		"before a flood": {
			append([]string{unknown}, help...), pipeline.ContainerFailed,
			"trtexec exited with status 1: trtexec of this TensorRT has no such option", "--release YY.MM", unknown,
		},
		"in the last lines": {
			[]string{"begins", "Cuda failure: out of memory", "ends"},
			pipeline.ContainerFailed,
			"trtexec exited with status 1: the GPU has too little free memory", "--max-batch", "begins",
		},
		"of the host": {
			[]string{"Cuda failure: CUDA driver version is insufficient for CUDA runtime version"},
			pipeline.Environment,
			"trtexec exited with status 1: the container sees no NVIDIA driver, or one too old for its CUDA", "dalirun doctor",
			"Cuda failure: CUDA driver version is insufficient for CUDA runtime version",
		},
		"only a warning": {[]string{warning, "ends"}, pipeline.ContainerFailed, "trtexec exited with status 1", "", warning},
		"cause after what it leads to": {
			append([]string{"[11/22/2026-14:05:57] [E] Saving engine to file failed.", "write: No space left on device"}, help...), pipeline.Environment,
			"trtexec exited with status 1: the disk is full", "--cache-dir", "write: No space left on device",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.instead(steps.IDBuildEngine, prints(1, tt.lines...))
			f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), tt.kind)
			if f.Error() != tt.says || !strings.Contains(f.Hint, tt.hint) || (tt.hint == "") != (f.Hint == "") {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.says, tt.hint)
			}
			if f.Tail[0] != tt.first || f.Tail[len(f.Tail)-1] != tt.lines[len(tt.lines)-1] || len(f.Tail) > 16 {
				t.Errorf("the tail is %q", f.Tail)
			}
		})
	}
}

// TestServerSays checks what is told of a server that prints what the real one did and exits.
func TestServerSays(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		log  string
		kind pipeline.Kind
		says string
	}{
		"truncated plan":    {"tritonserver-truncated-plan.log", pipeline.NotReady, "the engine's file is cut short"},
		"missing plan":      {"tritonserver-missing-plan.log", pipeline.NotReady, "the server cannot load the engine's file"},
		"no version folder": {"tritonserver-no-version-dir.log", pipeline.NotReady, "the model repository lacks the version folder of a model"},
		"without GPUs":      {"tritonserver-without-gpus.log", pipeline.Environment, "the server's container sees no GPU, and a TensorRT engine needs one"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.make(t, steps.IDServe)
			log := tooltest.Output(tt.log)
			w.instead(steps.IDServe, func(_ context.Context, _ container.Spec, out container.Streams) int {
				_, _ = io.WriteString(out.Stderr, log)
				return 1
			})
			f := fault(t, w.run(t, t.Context(), steps.IDServe), tt.kind)
			if want := "tritonserver exited with status 1: " + tt.says; f.Error() != want || f.Hint == "" {
				t.Errorf("got %q with the hint %q, want %q", f, f.Hint, want)
			}
		})
	}
}

// TestRootModelIsTold checks that the reason of the model that did not load is told, and not that of the ensemble which depends on it;
// the server's log knows it better than the answer to the request.
func TestRootModelIsTold(t *testing.T) {
	t.Parallel()
	const reason = "unable to load plan file to auto complete config: /models/resnet50_trt/1/model.plan"
	for name, tt := range map[string]struct{ log, says string }{
		"by the log": {
			`E1122 14:08:41.375090 1 logging.cc:40] "6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.9, please rebuild."`,
			"the engine was built for a GPU of another compute capability",
		},
		"by the answer": {"I1122 14:08:41.375090 1 model_lifecycle.cc:472] \"loading: resnet50_trt:1\"", "the server cannot load the engine's file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			logged := make(chan struct{})
			w.serveModels(t, faults{load: map[string]func(context.Context) error{
				"resnet50_trt": func(context.Context) error { <-logged; return errors.New(reason) },
			}})
			w.make(t, steps.IDServe)
			w.instead(steps.IDServe, func(ctx context.Context, _ container.Spec, out container.Streams) int {
				fmt.Fprintln(out.Stderr, tt.log)
				close(logged)
				return w.relay(ctx, w.triton().Addr())
			})
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if !strings.HasPrefix(f.Error(), "load model resnet50_trt: ") || !strings.HasSuffix(f.Error(), ": "+tt.says) || strings.Contains(f.Error(), "depends on") {
				t.Errorf("got %q, want it to end with %q", f, tt.says)
			}
			if !slices.ContainsFunc(f.Tail, func(l string) bool { return strings.Contains(l, reason) }) || !slices.Contains(f.Tail, tt.log) {
				t.Errorf("the tail is %q", f.Tail)
			}
			w.undo(t)
		})
	}
}

// TestNotReadyInTime checks that a wait that ends says how to make it longer, unless the log says why that would not help.
func TestNotReadyInTime(t *testing.T) {
	t.Parallel()
	for line, hint := range map[string]string{
		"starting": "--ready-timeout",
		"libcudart-9335f6a2.so.12.4.99: cannot open shared object file: No such file or directory": "pull it again",
	} {
		t.Run(strings.Fields(line)[0], func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDServe)
			w.target.ReadyTimeout = 300 * time.Millisecond
			w.instead(steps.IDServe, func(ctx context.Context, _ container.Spec, out container.Streams) int {
				fmt.Fprintln(out.Stderr, line)
				<-ctx.Done()
				return 137
			})
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if !strings.HasPrefix(f.Error(), "tritonserver is not live after 300ms") || !strings.Contains(f.Hint, hint) {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			w.undo(t)
		})
	}
}

// TestServerKilled checks that a server which was killed is explained as a batch container is.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	for want, program := range map[string]containertest.Program{
		"close other programs": func(ctx context.Context, _ container.Spec, _ container.Streams) int {
			containertest.OutOfMemory(ctx)
			return 137
		},
		"mostly for memory": prints(137),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDServe)
			w.instead(steps.IDServe, program)
			if f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady); !strings.Contains(f.Hint, want) {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
		})
	}
}

// TestGPUIsLost checks that what nvidia-smi says in the server's container is explained.
func TestGPUIsLost(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.smi = prints(255, "Failed to initialize NVML: Unknown Error")
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.Environment)
	if !strings.Contains(f.Error(), "the container lost its GPU") || !strings.Contains(f.Hint, "create-dev-char-symlinks") {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
	w.undo(t)
}
