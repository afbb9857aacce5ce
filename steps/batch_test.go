package steps_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// batchSteps are the builders that run a container, and what a user knows its program as.
func batchSteps() map[pipeline.ID]string {
	return map[pipeline.ID]string{
		steps.IDWeights:       "seed_weights.py",
		steps.IDExportONNX:    "export_onnx.py",
		steps.IDBuildEngine:   "trtexec",
		steps.IDSerializeDALI: "serialize_dali.py",
		steps.IDReference:     "reference.py",
	}
}

// TestContainerFails checks what is told of a container that ends with an error, for each step that runs one.
func TestContainerFails(t *testing.T) {
	t.Parallel()
	for id, program := range batchSteps() {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.instead(id, prints(3, "it begins", "it breaks"))
			f := fault(t, w.run(t, t.Context(), id), pipeline.ContainerFailed)
			if want := program + " exited with status 3"; f.Error() != want {
				t.Errorf("the error is %q, want %q", f, want)
			}
			if diff := cmp.Diff([]string{"it begins", "it breaks"}, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			if specs := w.fake.Specs(); f.Repeat != w.fake.Repeat(specs[len(specs)-1]) {
				t.Errorf("the line to repeat it is %q", f.Repeat)
			}
			w.wantNoContainer(t)
		})
	}
}

func TestContainerFailure(t *testing.T) {
	t.Parallel()
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("line %d", i+1)
	}
	tests := map[string]struct {
		program containertest.Program
		want    string // the error
		hint    string
		tail    []string
	}{
		"reason of our programs": {
			program: prints(2, "loading", "error: argument --weights: it lacks fc.weight"),
			want:    "export_onnx.py: argument --weights: it lacks fc.weight",
			tail:    []string{"loading", "error: argument --weights: it lacks fc.weight"},
		},
		"traceback": {
			program: prints(1, "Traceback (most recent call last):", "ValueError: error: not at the beginning"),
			want:    "export_onnx.py exited with status 1",
			tail:    []string{"Traceback (most recent call last):", "ValueError: error: not at the beginning"},
		},
		"last lines of many": {program: prints(1, many...), want: "export_onnx.py exited with status 1", tail: many[25:]},
		"unfinished line": {
			program: func(_ context.Context, _ container.Spec, out container.Streams) int {
				fmt.Fprint(out.Stdout, "a progress bar\r\n\n")
				fmt.Fprint(out.Stderr, "Segmentation fault")
				return 139
			},
			want: "export_onnx.py exited with status 139", tail: []string{"a progress bar", "Segmentation fault"},
		},
		"no line breaks": {
			program: func(_ context.Context, _ container.Spec, out container.Streams) int {
				for range 1000 {
					fmt.Fprint(out.Stdout, strings.Repeat("#", 1000))
				}
				return 1
			},
			want: "export_onnx.py exited with status 1", tail: []string{strings.Repeat("#", 16<<10)},
		},
		"long lines": {
			program: prints(1, strings.Repeat("1", 10<<10), strings.Repeat("2", 10<<10), strings.Repeat("3", 5<<10)),
			want:    "export_onnx.py exited with status 1", tail: []string{strings.Repeat("2", 10<<10), strings.Repeat("3", 5<<10)},
		},
		"out of memory": {
			program: func(ctx context.Context, _ container.Spec, out container.Streams) int {
				fmt.Fprintln(out.Stdout, "loading")
				containertest.OutOfMemory(ctx)
				return 0
			},
			want: "export_onnx.py was killed: it needs more memory than there is",
			hint: "--memory raises that", tail: []string{"loading"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.instead(steps.IDExportONNX, tt.program)
			f := fault(t, w.run(t, t.Context(), steps.IDExportONNX), pipeline.ContainerFailed)
			if f.Error() != tt.want || !strings.Contains(f.Hint, tt.hint) || (tt.hint == "") != (f.Hint == "") {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
			}
			if diff := cmp.Diff(tt.tail, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			w.wantNoContainer(t)
		})
	}
}

// TestDiskIsFull is about outputs that do not fit on the host's disk: nothing that fills it may stay there.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.instead(steps.IDExportONNX, prints(2, "error: [Errno 28] No space left on device"))
	f := fault(t, w.run(t, t.Context(), steps.IDExportONNX), pipeline.Environment)
	if !strings.Contains(f.Hint, "--cache-dir") || f.Repeat != "" {
		t.Errorf("hint %q, line to repeat it %q", f.Hint, f.Repeat)
	}
	w.wantNoContainer(t)
}

// TestOutputIsTold checks that every line that a program prints becomes an event, the last words among them.
func TestOutputIsTold(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.make(t, steps.IDExportONNX)
	w.payloads = nil
	w.instead(steps.IDExportONNX, prints(1, "one", "two", "three"))
	wantFault(t, w.run(t, t.Context(), steps.IDExportONNX), pipeline.ContainerFailed)
	want := []pipeline.Payload{pipeline.Line{Text: "one"}, pipeline.Line{Text: "two"}, pipeline.Line{Text: "three"}}
	if diff := cmp.Diff(want, w.payloads); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}

// TestStartRefused checks what is said of a container that cannot be started, and that it is nobody's fault but the
// machine's.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		hint string
	}{
		"no GPU":      {container.ErrNoGPU, "NVIDIA Container Toolkit"},
		"no such GPU": {fmt.Errorf("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7: %w", container.ErrNoGPU), "nvidia-smi -L"},
		"old driver": {
			fmt.Errorf("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver: %w", container.ErrNoGPU),
			"dalirun doctor",
		},
		"no space":    {container.ErrNoSpace, "docker system df"},
		"unreachable": {container.ErrUnreachable, ""},
		"permission":  {container.ErrPermission, ""},
	}
	for name, tt := range tests {
		for _, id := range []pipeline.ID{steps.IDBuildEngine, steps.IDSerializeDALI, steps.IDServe} {
			t.Run(name+"/"+string(id), func(t *testing.T) {
				t.Parallel()
				w := gpuNGC(t)
				w.fake.OnStart = func(_ context.Context, spec container.Spec) error {
					if spec.Step == string(id) {
						return fmt.Errorf("start %s: %w", spec.Image, tt.err)
					}
					return nil
				}
				err := w.run(t, t.Context(), id)
				f := fault(t, err, pipeline.Environment)
				if !errors.Is(err, tt.err) || !strings.Contains(f.Hint, tt.hint) || (tt.hint == "") != (f.Hint == "") {
					t.Errorf("got %v with the hint %q, want %v with %q", err, f.Hint, tt.err, tt.hint)
				}
				w.wantNoContainer(t)
			})
		}
	}
}

// TestPortTaken checks that a port that was asked for is not exchanged.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.fake.OnCreate = func(_ context.Context, spec container.Spec) error {
		if spec.Step == string(steps.IDServe) {
			return fmt.Errorf("publish 8001: %w", container.ErrPortTaken)
		}
		return nil
	}
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.Environment)
	if !strings.Contains(f.Hint, "name another") {
		t.Errorf("the hint is %q", f.Hint)
	}
}

// TestEngineIsNotSaved: trtexec has been seen to end well although it could not save.
func TestEngineIsNotSaved(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		program containertest.Program
		says    string
	}{
		"no file": {prints(0, "Saving engine to file failed."), "trtexec ended well but saved no engine: trtexec could not write the engine's file"},
		"empty file": {func(_ context.Context, spec container.Spec, _ container.Streams) int {
			if err := inside(spec).write("/out/model.plan", ""); err != nil {
				return 1
			}
			return 0
		}, "trtexec ended well but saved no engine"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.instead(steps.IDBuildEngine, tt.program)
			f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			if f.Error() != tt.says || f.Hint == "" || !strings.Contains(f.Repeat, "trtexec") {
				t.Errorf("got %q with the hint %q, to be repeated by %q", f, f.Hint, f.Repeat)
			}
			w.wantNoContainer(t)
		})
	}
}

// TestCancelled checks for every step that runs a container that none is left when the run is cancelled.
func TestCancelled(t *testing.T) {
	t.Parallel()
	errStopped := errors.New("interrupted")
	for id := range batchSteps() {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			begun := make(chan struct{})
			w.instead(id, hangs(begun))
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-begun
				cancel(errStopped)
			}()
			if err := w.run(t, ctx, id); !errors.Is(err, errStopped) {
				t.Errorf("got %v, want %v", err, errStopped)
			}
			w.wantNoContainer(t)
		})
	}
}

// TestTimeLimits checks that no program is waited for without end, and that the error names it and its limit. The clock
// is synctest's.
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	limits := map[pipeline.ID]time.Duration{
		steps.IDWeights: 15 * time.Minute, steps.IDExportONNX: 15 * time.Minute, steps.IDBuildEngine: time.Hour,
		steps.IDSerializeDALI: 10 * time.Minute, steps.IDReference: 10 * time.Minute,
	}
	for id, program := range batchSteps() {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := gpuNGC(t)
				w.make(t, id)
				w.instead(id, hangs(make(chan struct{})))
				began := time.Now()
				f := fault(t, w.run(t, t.Context(), id), pipeline.ContainerFailed)
				if want := fmt.Sprintf("%s did not end within %s", program, limits[id]); f.Error() != want {
					t.Errorf("got %q, want %q", f, want)
				}
				if took := time.Since(began); took != limits[id] {
					t.Errorf("it took %s", took)
				}
				if f.Repeat == "" {
					t.Error("the error does not say how to repeat it")
				}
				w.wantNoContainer(t)
			})
		})
	}
}

// TestStartHangs checks that an engine, or a hook of it, that never starts a container does not hold up the run. The clock
// is synctest's.
func TestStartHangs(t *testing.T) {
	t.Parallel()
	for _, id := range []pipeline.ID{steps.IDBuildEngine, steps.IDSerializeDALI, steps.IDServe} {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := gpuNGC(t)
				w.make(t, id)
				w.fake.OnStart = func(ctx context.Context, _ container.Spec) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
				began := time.Now()
				f := fault(t, w.run(t, t.Context(), id), pipeline.Environment)
				if want := "the container of " + string(id) + " did not start within 5m0s"; f.Error() != want || !strings.Contains(f.Hint, "hangs") {
					t.Errorf("got %q with the hint %q, want %q", f, f.Hint, want)
				}
				if took := time.Since(began); took != 5*time.Minute {
					t.Errorf("it took %s", took)
				}
				w.wantNoContainer(t)
			})
		})
	}
}

// TestEngineDies checks that a container that nobody can wait for any more did not fail by itself.
func TestEngineDies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		hint string
	}{
		{container.ErrUnreachable, "start the container engine"},
		{container.ErrNoSpace, "docker system df"},
		{container.ErrFailing, ""},
	} {
		w := gpuNGC(t)
		w.make(t, steps.IDBuildEngine)
		w.tools.Runner = dies{w.fake, c.err}
		err := w.run(t, t.Context(), steps.IDBuildEngine)
		f := fault(t, err, pipeline.Environment)
		if !errors.Is(err, c.err) || !strings.Contains(f.Hint, c.hint) || (f.Hint == "") != (c.hint == "") {
			t.Errorf("got %v with the hint %q", err, f.Hint)
		}
	}
}

// dies is a runtime that is gone once a container runs.
type dies struct {
	container.Runtime

	err error
}

func (r dies) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	c, err := r.Runtime.Run(ctx, spec, out)
	return orphan{c, r.err}, err
}

type orphan struct {
	container.Container

	err error
}

func (c orphan) Wait(context.Context) (container.Exit, error) {
	return container.Exit{}, fmt.Errorf("wait for %s: %w", c.Name(), c.err)
}

func (c orphan) Exec(context.Context, []string, container.Streams) (int, error) {
	return 0, fmt.Errorf("exec in %s: %w", c.Name(), c.err)
}

// TestRemovalFails checks that a container that cannot be removed is told of, and stops nothing.
func TestRemovalFails(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.make(t, steps.IDExportONNX)
	w.tools.Runner = cannotRemove{w.fake}
	if err := w.run(t, t.Context(), steps.IDExportONNX); err != nil {
		t.Fatal(err)
	}
	warned := slices.ContainsFunc(w.payloads, func(p pipeline.Payload) bool {
		warning, ok := p.(pipeline.Warning)
		return ok && strings.Contains(warning.Text, "could not be removed: the engine is gone")
	})
	if !warned {
		t.Errorf("no warning among %v", w.payloads)
	}
}

type cannotRemove struct{ container.Runtime }

func (cannotRemove) Remove(context.Context, string) error { return errors.New("the engine is gone") }

// TestProgramsAreMounted checks that what a container runs is what the binary carries, and no more than it needs: a module
// that is mounted is a fact, and an edit of it builds anew.
func TestProgramsAreMounted(t *testing.T) {
	t.Parallel()
	want := map[pipeline.ID][]string{
		steps.IDWeights:       {"network.py", "program.py", "seed_weights.py"},
		steps.IDExportONNX:    {"export_onnx.py", "network.py", "program.py"},
		steps.IDSerializeDALI: {"program.py", "serialize_dali.py"},
		steps.IDReference:     {"network.py", "picture.py", "program.py", "reference.py"},
	}
	for id, files := range want {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			seen := map[string]string{}
			w.instead(id, func(_ context.Context, spec container.Spec, _ container.Streams) int {
				host, writable, err := containertest.HostPath(spec, "/dalirun/python")
				if err != nil || writable {
					t.Errorf("the programs are at %q, writable %t, %v", host, writable, err)
				}
				entries, err := os.ReadDir(host)
				if err != nil {
					t.Error(err)
				}
				for _, e := range entries {
					seen[e.Name()] = sum(string(read(t, filepath.Join(host, e.Name()))))
				}
				return 1
			})
			wantFault(t, w.run(t, t.Context(), id), pipeline.ContainerFailed)
			if diff := cmp.Diff(files, slices.Sorted(maps.Keys(seen))); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			facts := w.facts(t, id)
			for name, digest := range seen {
				if facts[name] != digest {
					t.Errorf("the fact %s is %q, and what was mounted is %q", name, facts[name], digest)
				}
			}
		})
	}
}
