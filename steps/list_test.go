package steps_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// project is a world with a cache, in which whole lists run.
type project struct {
	*world
	store *store.Store
}

func newProject(t *testing.T, w *world) *project {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.tools.KV = s
	return &project{w, s}
}

// ended is what one run did.
type ended struct {
	err    error
	states map[pipeline.ID]pipeline.EndState
	ran    []string // the steps that ran a container
	pulls  []string
	builds int
}

// steps lists the steps that ended so, in the order of their names.
func (e ended) steps(state pipeline.EndState) []string {
	var ids []string
	for id, s := range e.states {
		if s == state {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids
}

// runAll runs the list to until, with a server of its own, and checks that it leaves no container.
func (p *project) runAll(t *testing.T, until pipeline.ID) ended {
	t.Helper()
	server := tritontest.New(t, served(p.target.Lane, faults{})...)
	p.triton = func() *tritontest.Server { return server }
	specs, pulls, builds := len(p.fake.Specs()), len(p.fake.Pulls()), len(p.fake.Builds())
	sink := &sink{ended: map[pipeline.ID]pipeline.EndState{}}
	runner := &pipeline.Runner{RunID: "r", Workspace: "w", Store: p.store, Sink: sink}
	e := ended{err: runner.Run(t.Context(), p.list(until)), states: sink.ended}
	for _, s := range p.fake.Specs()[specs:] {
		e.ran = append(e.ran, s.Step)
	}
	slices.Sort(e.ran)
	e.pulls, e.builds = p.fake.Pulls()[pulls:], len(p.fake.Builds())-builds
	p.wantNoContainer(t)
	return e
}

// must is for a run that succeeds.
func (e ended) must(t *testing.T) ended {
	t.Helper()
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e
}

// sink keeps how the steps ended.
type sink struct {
	mu    sync.Mutex
	ended map[pipeline.ID]pipeline.EndState
}

func (s *sink) Emit(e pipeline.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, ok := e.Payload.(pipeline.Ended); ok {
		s.ended[e.Step] = end.State
	}
}

// A step that leads to no proof never runs: it has to be read by a step that does.
func TestEachStepIsRead(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		read := map[pipeline.Output]bool{}
		for i, s := range slices.Backward(w.list(steps.IDVerify)) {
			if i < len(w.list(steps.IDVerify))-1 && !slices.ContainsFunc(s.Outputs(), func(o pipeline.Output) bool { return read[o] }) {
				t.Errorf("%s: no step reads what %s makes, and so it never runs: give its handle to one that needs it", name, s.ID())
			}
			for _, in := range s.Inputs() {
				read[in] = true
			}
		}
	}
}

// batchOf are the steps of a case that run a container, but for the server.
func batchOf(w *world) []string {
	ids := []string{"export-onnx", "reference", "serialize-dali"}
	if w.target.Weights.Kind == target.Random {
		ids = append(ids, "weights")
	}
	if w.target.Lane == target.GPU {
		ids = append(ids, "build-engine")
	}
	if w.target.Release.Tag == "26.06" && w.target.Precision == "fp16" {
		ids = append(ids, "cast-onnx")
	}
	if w.target.Source == target.Local { // their packages are read
		ids = append(ids, "exporter-image", "server-image")
	}
	return ids
}

func sorted(s ...string) []string { return slices.Sorted(slices.Values(s)) }

// TestWholeList runs each list three times: the first runs everything, the second only the server and its verification,
// and the third the same although the images that only builders need are gone.
func TestWholeList(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, newWorld(t))

			first := p.runAll(t, steps.IDVerify).must(t)
			all := make([]string, 0, len(first.states))
			for _, s := range p.list(steps.IDVerify) {
				all = append(all, string(s.ID()))
			}
			if diff := cmp.Diff(sorted(all...), first.steps(pipeline.Done)); diff != "" {
				t.Errorf("first run: done (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(sorted(append(batchOf(p.world), "serve")...), first.ran); diff != "" {
				t.Errorf("first run: containers (-want +got):\n%s", diff)
			}
			if len(first.pulls)+first.builds != 2 {
				t.Errorf("first run: pulled %v and built %d, want two images", first.pulls, first.builds)
			}

			warm := func(what string) {
				t.Helper()
				e := p.runAll(t, steps.IDVerify).must(t)
				if diff := cmp.Diff([]string{"serve", "verify"}, e.steps(pipeline.Done)); diff != "" {
					t.Errorf("%s: done (-want +got):\n%s", what, diff)
				}
				if diff := cmp.Diff([]string{"serve"}, e.ran); diff != "" || len(e.pulls)+e.builds > 0 {
					t.Errorf("%s: pulled %v, built %d, containers (-want +got):\n%s", what, e.pulls, e.builds, diff)
				}
			}
			warm("second run")
			p.removeImage(t, steps.IDExporterImage)
			warm("without the exporter image")

			// The repository alone needs neither.
			p.removeImage(t, steps.IDServerImage)
			e := p.runAll(t, steps.IDAssembleRepository).must(t)
			if len(e.ran)+len(e.pulls)+e.builds+len(e.steps(pipeline.Done)) > 0 {
				t.Errorf("setup without images: %+v", e)
			}
		})
	}
}

// removeImage makes the image of a step absent.
func (w *world) removeImage(t *testing.T, id pipeline.ID) {
	t.Helper()
	_, values := w.observe(t, id)
	if values["image"].Ref == "" {
		t.Fatalf("%s made no image", id)
	}
	w.fake.Prune(values["image"].Ref)
}

// TestRerun checks how far a change goes: what does not depend on it is not made again.
func TestRerun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		world  func(*testing.T) *world
		change func(*testing.T, *project)
		want   []string // done, beside serve and verify
		images int      // pulled or built
	}{
		"optimal batch, gpu": {
			world: gpuNGC, change: func(_ *testing.T, p *project) { p.tune(32) },
			want: []string{"assemble-repository", "build-engine"},
		},
		"optimal batch, gpu, without the image that it does not need": {
			world: gpuNGC,
			change: func(t *testing.T, p *project) {
				t.Helper()
				p.removeImage(t, steps.IDExporterImage)
				p.tune(32)
			},
			want: []string{"assemble-repository", "build-engine"},
		},
		"optimal batch, 21.07, without the image that it needs": {
			world: tutorial,
			change: func(t *testing.T, p *project) {
				t.Helper()
				p.removeImage(t, steps.IDExporterImage)
				p.tune(32)
			},
			want: []string{"assemble-repository", "build-engine", "exporter-image"}, images: 1,
		},
		"optimal batch, cpu": {world: cpuLocal, change: func(_ *testing.T, p *project) { p.tune(32) }},
		"largest batch": {
			world: cpuLocal, change: func(_ *testing.T, p *project) { p.target.MaxBatch = 8 },
			want: []string{"assemble-repository", "serialize-dali"},
		},
		"picture": {
			world: cpuLocal, change: func(_ *testing.T, p *project) { p.target.Picture.Data = otherPicture() },
			want: []string{"reference"},
		},
		"seed": {
			world: gpuNGC, change: func(_ *testing.T, p *project) { p.target.Weights.Seed = 5 },
			want: []string{"assemble-repository", "build-engine", "export-onnx", "reference", "weights"},
		},
		"weights in a file": {
			world: tutorial,
			change: func(t *testing.T, p *project) {
				t.Helper()
				if err := os.WriteFile(p.target.Weights.Path, []byte("trained for longer"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"assemble-repository", "build-engine", "export-onnx", "reference", "weights"},
		},
		"time of the weights file": {
			world: tutorial,
			change: func(t *testing.T, p *project) {
				t.Helper()
				later := time.Now().Add(time.Hour)
				if err := os.Chtimes(p.target.Weights.Path, later, later); err != nil {
					t.Fatal(err)
				}
			},
		},
		"driver": {
			world: gpuNGC, change: func(_ *testing.T, p *project) { p.target.Device.Driver = "590.1" },
			want: []string{"build-engine"},
		},
		"local images that are built again with the same packages": {
			world: cpuLocal,
			change: func(t *testing.T, p *project) {
				t.Helper()
				p.removeImage(t, steps.IDServerImage)
			},
			want: []string{"server-image"}, images: 1,
		},
		"a damaged model": {
			world: cpuLocal,
			change: func(t *testing.T, p *project) {
				t.Helper()
				for _, file := range p.stored(t, "model.onnx") {
					if err := errors.Join(os.Chmod(file, 0o600), os.Truncate(file, 3)); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: []string{"assemble-repository", "export-onnx"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, tt.world(t))
			p.runAll(t, steps.IDVerify).must(t)
			tt.change(t, p)
			e := p.runAll(t, steps.IDVerify).must(t)
			if diff := cmp.Diff(sorted(append(tt.want, "serve", "verify")...), e.steps(pipeline.Done)); diff != "" {
				t.Errorf("done (-want +got):\n%s", diff)
			}
			if n := len(e.pulls) + e.builds; n != tt.images {
				t.Errorf("pulled %v, built %d, want %d images", e.pulls, e.builds, tt.images)
			}
		})
	}
}

// TestOtherPackages checks that a local image that was built again with other packages is found to be another one. The run
// that builds it has found its readers' results by what it was; the next one makes them again.
func TestOtherPackages(t *testing.T) {
	t.Parallel()
	p := newProject(t, cpuLocal(t))
	p.runAll(t, steps.IDVerify).must(t)
	p.removeImage(t, steps.IDServerImage)
	p.packages = "python3 3.12\n"
	var done []string
	for range 3 {
		done = append(done, p.runAll(t, steps.IDVerify).must(t).steps(pipeline.Done)...)
	}
	for step, want := range map[string]int{"server-image": 1, "serialize-dali": 1, "export-onnx": 0, "reference": 0} {
		got := 0
		for _, d := range done {
			if d == step {
				got++
			}
		}
		if got != want {
			t.Errorf("%s was done %d times, want %d: %v", step, got, want, done)
		}
	}
}

// stored are the files of a name in the cache.
func (p *project) stored(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.store.Dir(), "entries", "*", "*", "files", name))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in the cache: %v", name, err)
	}
	return files
}

// TestListFails checks that a failure of any step that runs a container is told once with that step's name, leaves no
// container, and that the next run makes only what is missing.
func TestListFails(t *testing.T) {
	t.Parallel()
	for id := range batchSteps() {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.instead(id, prints(1, "it breaks"))
			e := p.runAll(t, steps.IDVerify)
			f := fault(t, e.err, pipeline.ContainerFailed)
			if want := string(id) + ": " + f.Error(); e.err.Error() != want {
				t.Errorf("the error is %q, want %q", e.err, want)
			}
			if diff := cmp.Diff([]string{string(id)}, e.steps(pipeline.Failed)); diff != "" {
				t.Errorf("failed (-want +got):\n%s", diff)
			}
			p.instead(id, nil)
			again := p.runAll(t, steps.IDVerify).must(t)
			for _, done := range e.steps(pipeline.Done) {
				s := p.step(pipeline.ID(done))
				if _, ok := s.(pipeline.Builder); ok && again.states[s.ID()] == pipeline.Done {
					t.Errorf("%s was made again", done)
				}
			}
		})
	}
}

// TestListCancelled interrupts a run while each of its containers works, and checks that none is left and that nothing
// of an interrupted step was stored.
func TestListCancelled(t *testing.T) {
	t.Parallel()
	errStopped := errors.New("interrupted")
	ids := slices.Collect(maps.Keys(batchSteps()))
	for _, id := range append(ids, steps.IDServe) {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			ctx, cancel := context.WithCancelCause(t.Context())
			p.instead(id, func(ctx context.Context, spec container.Spec, _ container.Streams) int {
				if spec.Step != string(steps.IDServe) {
					for _, name := range []string{"/out/model.onnx", "/out/model.plan", "/out/model.dali", "/out/weights.pth", "/out/tensor.f32"} {
						if err := inside(spec).write(name, "half"); err != nil {
							t.Error(err)
						}
					}
				}
				cancel(errStopped)
				<-ctx.Done()
				return 137
			})
			sink := &sink{ended: map[pipeline.ID]pipeline.EndState{}}
			runner := &pipeline.Runner{RunID: "r", Workspace: "w", Store: p.store, Sink: sink}
			if err := runner.Run(ctx, p.list(steps.IDVerify)); !errors.Is(err, errStopped) {
				t.Errorf("got %v, want %v", err, errStopped)
			}
			if got := sink.ended[id]; got != pipeline.Cancelled {
				t.Errorf("%s ended as %s", id, got)
			}
			p.wantNoContainer(t)
			p.instead(id, nil)
			if e := p.runAll(t, steps.IDVerify).must(t); e.states[id] != pipeline.Done {
				t.Errorf("in the next run %s ended as %s", id, e.states[id])
			}
		})
	}
}

// TestListOfBadPicture checks that a picture which PyTorch's decoder refuses ends the build of the engine, which takes long, and the run.
func TestListOfBadPicture(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.target.Picture.Name = "cat.jpg"
	building := make(chan struct{})
	p.instead(steps.IDBuildEngine, func(ctx context.Context, _ container.Spec, _ container.Streams) int {
		close(building)
		<-ctx.Done()
		return 137
	})
	refuses := prints(statusOfBadPicture(t), "error: /dalirun/picture cannot be decoded as a picture: it is cut")
	p.instead(steps.IDReference, func(ctx context.Context, spec container.Spec, out container.Streams) int {
		select {
		case <-building:
		case <-ctx.Done():
		}
		return refuses(ctx, spec, out)
	})
	sink := &sink{ended: map[pipeline.ID]pipeline.EndState{}}
	runner := &pipeline.Runner{RunID: "r", Workspace: "w", Store: p.store, Sink: sink}
	wantFault(t, runner.Run(t.Context(), p.list(steps.IDVerify)), pipeline.Usage)
	if sink.ended[steps.IDBuildEngine] != pipeline.Cancelled || sink.ended[steps.IDReference] != pipeline.Failed {
		t.Errorf("the steps ended as %v", sink.ended)
	}
	p.wantNoContainer(t)
}

// TestListOfWrongServer checks that a run whose server is wrong is one that failed, and leaves no server.
func TestListOfWrongServer(t *testing.T) {
	t.Parallel()
	p := newProject(t, cpuLocal(t))
	p.runAll(t, steps.IDVerify).must(t)
	wrong := tritontest.New(t, served(target.CPU, faults{picture: func([]byte) []byte { return otherPicture() }})...)
	p.triton = func() *tritontest.Server { return wrong }
	runner := &pipeline.Runner{RunID: "r", Workspace: "w", Store: p.store, Sink: &sink{ended: map[pipeline.ID]pipeline.EndState{}}}
	err := runner.Run(t.Context(), p.list(steps.IDVerify))
	wantFault(t, err, pipeline.NotVerified)
	if failed, ok := errors.AsType[*pipeline.StepError](err); !ok || failed.Step != steps.IDVerify {
		t.Errorf("got %v, want an error of verify", err)
	}
	p.wantNoContainer(t)
}

// TestUntil checks what a list holds: what leads to its end, in order, and the engine in the gpu lane alone.
func TestUntil(t *testing.T) {
	t.Parallel()
	names := func(w *world, until pipeline.ID) string {
		var ids []string
		for _, s := range w.list(until) {
			ids = append(ids, string(s.ID()))
		}
		return strings.Join(ids, " ")
	}
	gpu, cpu := gpuNGC(t), cpuLocal(t)
	const head, tail = "exporter-image server-image weights export-onnx ", "serialize-dali assemble-repository serve reference verify"
	if got, want := names(gpu, steps.IDVerify), head+"build-engine "+tail; got != want {
		t.Errorf("gpu lane: %s, want %s", got, want)
	}
	if got, want := names(cpu, steps.IDVerify), head+tail; got != want {
		t.Errorf("cpu lane: %s, want %s", got, want)
	}
	if got, want := names(cpu, steps.IDExportONNX), strings.TrimSpace(head); got != want {
		t.Errorf("until export-onnx: %s, want %s", got, want)
	}
	if got := names(cpu, steps.IDBuildEngine); got != "" {
		t.Errorf("until a step that the lane has not: %s", got)
	}
}
