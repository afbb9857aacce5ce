package steps_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// serveModels makes w's server one with faults.
func (w *world) serveModels(t *testing.T, f faults) {
	t.Helper()
	w.triton = sync.OnceValue(func() *tritontest.Server { return tritontest.New(t, served(w.target.Lane, f)...) })
}

func TestServe(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tools.Handover = handover(false)
			if err := w.run(t, t.Context(), steps.IDServe); err != nil {
				t.Fatal(err)
			}
			classifier := "resnet50_onnx"
			if w.target.Lane == target.GPU {
				classifier = "resnet50_trt"
			}
			calls := slices.Compact(slices.DeleteFunc(w.triton().Calls(), func(c string) bool { return c == "ServerLive" }))
			want := []string{
				"RepositoryIndex", "RepositoryModelLoad dali", "RepositoryModelLoad " + classifier, "RepositoryModelLoad ensemble_dali_resnet50",
				"ModelMetadata ensemble_dali_resnet50", "ModelInfer ensemble_dali_resnet50",
			}
			if diff := cmp.Diff(want, calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			checkServer(t, w, []string{"dali", classifier, "ensemble_dali_resnet50"})
			w.undo(t)
			w.wantServerEnd(t, "drained")
		})
	}
}

// Shared memory is the server's alone: the other containers have the usual.
func TestSharedMemory(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.tools.Shm = 4 << 30
	for _, spec := range specs(t, w) {
		want := int64(steps.DefaultShm)
		if spec.Step == string(steps.IDServe) {
			want = 4 << 30
		}
		if spec.Shm != want {
			t.Errorf("%s has %d bytes of shared memory, not %d", spec.Step, spec.Shm, want)
		}
	}
}

// A pool that overflows is told of once, however often the server says it.
func TestServeWarnsOfPool(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.instead(steps.IDServe, func(ctx context.Context, spec container.Spec, out container.Streams) int {
		for line := range strings.Lines(tooltest.Output("tritonserver-gpu-stop.log")) {
			_, _ = io.WriteString(out.Stderr, line+line)
		}
		return w.tritonserver(ctx, spec, out)
	})
	if err := w.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
	var told []string
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.payloads {
		if warning, ok := p.(pipeline.Warning); ok {
			told = append(told, warning.Text)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "cuda-pool") {
		t.Errorf("told is %q", told)
	}
}

// A server that has models already is not the one that was started: it answers at the same port of another host.
func TestServeFindsAnotherServer(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	client, err := triton.Dial(w.triton().Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	if err := client.Load(t.Context(), "dali"); err != nil {
		t.Fatal(err)
	}
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.Environment)
	want := "another server answers in the place of the one that was started: it has dali loaded already"
	if f.Error() != want || !strings.Contains(f.Hint, "ssh://") {
		t.Errorf("got %q, hint %q", f, f.Hint)
	}
	w.undo(t)
	if leaked := w.fake.Leaked(); len(leaked) > 0 {
		t.Errorf("left are %v", leaked)
	}
}

// checkServer checks that the one container is what the step says of its server.
func checkServer(t *testing.T, w *world, models []string) {
	t.Helper()
	left := w.fake.Leaked()
	if len(left) != 1 {
		t.Fatalf("containers: %+v", left)
	}
	in := w.make(t, steps.IDServe)
	want := result.Server{
		Container: left[0].ID, Name: left[0].Name, Models: models,
		HTTP: left[0].Ports[triton.PortHTTP], GRPC: left[0].Ports[triton.PortGRPC], Metrics: left[0].Ports[triton.PortMetrics],
		Image: in[w.step(steps.IDServe).Inputs()[0]].Digest, Repository: in[w.step(steps.IDServe).Inputs()[1]].Path,
	}
	server, _ := resultOf(t, w, result.Serving)
	if diff := cmp.Diff(want, server, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("server (-want +got):\n%s", diff)
	}
	if seconds, _ := resultOf(t, w, result.TimeToReady); seconds <= 0 || seconds > 20 {
		t.Errorf("the time to ready is %v", seconds)
	}
	output := w.step(steps.IDServe).Outputs()[0]
	if v := w.values[output]; v.Ref != left[0].Ports[triton.PortGRPC].String() || v.Digest != left[0].ID {
		t.Errorf("%s is %+v", output, v)
	}
}

// wantServerEnd waits for the server's program to end, and checks how it did.
func (w *world) wantServerEnd(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-w.ends:
		if got != want {
			t.Errorf("the server was %s, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the server did not end; want it %s", want)
	}
}

func TestModelDoesNotLoad(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"dali", "resnet50_onnx", "ensemble_dali_resnet50"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.serveModels(t, faults{load: map[string]func(context.Context) error{
				model: func(context.Context) error { return errors.New("no backend for " + model) },
			}})
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if !strings.HasPrefix(f.Error(), "load model "+model+": ") || !strings.Contains(f.Error(), "no backend for "+model) {
				t.Errorf("the error is %q", f)
			}
			if want := model + ": UNAVAILABLE: Internal: no backend for " + model; !slices.Contains(f.Tail, want) {
				t.Errorf("the tail %q lacks %q", f.Tail, want)
			}
			if !strings.Contains(f.Repeat, "tritonserver") {
				t.Errorf("the line to repeat it is %q", f.Repeat)
			}
			w.undo(t)
			w.wantServerEnd(t, "killed")
		})
	}
}

func TestModelHangs(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"dali", "resnet50_onnx", "ensemble_dali_resnet50"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDServe)
			w.target.ReadyTimeout = 500 * time.Millisecond
			w.serveModels(t, faults{load: map[string]func(context.Context) error{
				model: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			}})
			began := time.Now()
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if want := "model " + model + " is still loading after 500ms"; f.Error() != want {
				t.Errorf("got %q, want %q", f, want)
			}
			if !slices.Contains(f.Tail, model+": LOADING") {
				t.Errorf("the tail is %q", f.Tail)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			w.undo(t)
			w.wantServerEnd(t, "killed")
		})
	}
}

// TestWarmUp checks that models that are ready are not taken for models that work.
func TestWarmUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		infer func(context.Context) error
		want  string
	}{
		"fails": {func(context.Context) error { return errors.New("stub process is unhealthy") }, "stub process is unhealthy"},
		"hangs": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "ensemble_dali_resnet50 does not answer after 500ms"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDServe)
			w.target.ReadyTimeout = 500 * time.Millisecond
			w.triton().Intercept(func(ctx context.Context, rpc, _ string) error {
				if rpc == "ModelInfer" {
					return tt.infer(ctx)
				}
				return nil
			})
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if !strings.Contains(f.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", f, tt.want)
			}
			w.undo(t)
			w.wantServerEnd(t, "killed")
		})
	}
}

// TestServerExits checks that a server that ends is not waited for, whenever it does.
func TestServerExits(t *testing.T) {
	t.Parallel()
	dies := func(out container.Streams, exit func()) int {
		_, _ = out.Stderr.Write([]byte("I: starting\nE: failed to stat file /models\n"))
		exit()
		return 1
	}
	tests := map[string]struct {
		program func(w *world, loading <-chan struct{}) containertest.Program
		want    string
	}{
		"at once": {func(*world, <-chan struct{}) containertest.Program {
			return func(_ context.Context, _ container.Spec, out container.Streams) int {
				return dies(out, func() {})
			}
		}, "tritonserver exited with status 1"},
		"while it loads": {func(w *world, loading <-chan struct{}) containertest.Program {
			return func(ctx context.Context, _ container.Spec, out container.Streams) int {
				go w.relay(ctx, w.triton().Addr())
				return dies(out, func() { <-loading })
			}
		}, "tritonserver exited with status 1"},
		"after its connections broke": {func(w *world, loading <-chan struct{}) containertest.Program {
			return func(ctx context.Context, _ container.Spec, out container.Streams) int {
				go w.relay(ctx, w.triton().Addr())
				return dies(out, func() {
					<-loading
					w.triton().Stop()
					<-time.After(300 * time.Millisecond)
				})
			}
		}, "tritonserver exited with status 1"},
		"out of memory": {func(w *world, loading <-chan struct{}) containertest.Program {
			return func(ctx context.Context, _ container.Spec, out container.Streams) int {
				go w.relay(ctx, w.triton().Addr())
				return dies(out, func() { <-loading; containertest.OutOfMemory(ctx) })
			}
		}, "tritonserver exited: it was killed for memory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			loading := make(chan struct{})
			w.serveModels(t, faults{load: map[string]func(context.Context) error{
				"dali": func(ctx context.Context) error { close(loading); <-ctx.Done(); return ctx.Err() },
			}})
			w.make(t, steps.IDServe)
			w.instead(steps.IDServe, tt.program(w, loading))
			began := time.Now()
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if f.Error() != tt.want || !strings.Contains(f.Repeat, "tritonserver") {
				t.Errorf("got %q with the line %q to repeat it, want %q", f, f.Repeat, tt.want)
			}
			if diff := cmp.Diff([]string{"I: starting", "E: failed to stat file /models"}, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s, of %s that a model may take", took, w.target.ReadyTimeout)
			}
		})
	}
}

// TestServerExitsBeforeItsPortsAreKnown checks the server that ends so early that it publishes nothing any more. Its exit
// is known a little later: a container runtime tells of it after the last line of its log.
func TestServerExitsBeforeItsPortsAreKnown(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.make(t, steps.IDServe)
	w.tools.Runner = lateRuntime{w.fake}
	w.instead(steps.IDServe, prints(127, "tritonserver: error while loading shared libraries"))
	f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
	if f.Error() != "tritonserver exited with status 127" || f.Repeat == "" || len(f.Tail) != 1 {
		t.Errorf("got %q with the tail %q and the line %q to repeat it", f, f.Tail, f.Repeat)
	}
}

// lateRuntime has containers that have ended when Addr is called, and whose Wait returns only after that.
type lateRuntime struct{ container.Runtime }

func (r lateRuntime) Run(ctx context.Context, spec container.Spec, out container.Streams) (container.Container, error) {
	c, err := r.Runtime.Run(ctx, spec, out)
	return &lateContainer{c, make(chan struct{})}, err
}

type lateContainer struct {
	container.Container
	addrCalled chan struct{}
}

func (c *lateContainer) Addr(ctx context.Context, port uint16) (netip.AddrPort, error) {
	if _, err := c.Container.Wait(ctx); err != nil {
		return netip.AddrPort{}, err
	}
	close(c.addrCalled)
	return c.Container.Addr(ctx, port)
}

func (c *lateContainer) Wait(ctx context.Context) (container.Exit, error) {
	select {
	case <-c.addrCalled:
		<-time.After(100 * time.Millisecond)
		return c.Container.Wait(ctx)
	case <-ctx.Done():
		return container.Exit{}, context.Cause(ctx)
	}
}

// TestServerIsNeverLive checks that the wait ends and says for what it was, for a port on which nobody answers and for
// one whose connections are closed, which is what the proxies of container engines do.
func TestServerIsNeverLive(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *world) containertest.Program{
		"silent": func(*testing.T, *world) containertest.Program { return hangs(make(chan struct{})) },
		"closes": func(t *testing.T, w *world) containertest.Program {
			t.Helper()
			addr := tritontest.NewUnstarted(t).Addr()
			return func(ctx context.Context, _ container.Spec, _ container.Streams) int { return w.relay(ctx, addr) }
		},
	}
	for name, program := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.make(t, steps.IDServe)
			w.target.ReadyTimeout = 400 * time.Millisecond
			w.instead(steps.IDServe, program(t, w))
			f := fault(t, w.run(t, t.Context(), steps.IDServe), pipeline.NotReady)
			if want := "tritonserver is not live after 400ms: "; !strings.HasPrefix(f.Error(), want) ||
				!strings.Contains(f.Error(), ":8001") {
				t.Errorf("got %q, want %q", f, want)
			}
		})
	}
}

// TestServerBecomesLive checks that a port that closes connections until the server listens is polled.
func TestServerBecomesLive(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	late := tritontest.NewUnstarted(t, served(target.CPU, faults{})...)
	w.triton = func() *tritontest.Server { return late }
	go func() {
		for late.Refused() < 2 {
			<-time.After(time.Millisecond)
		}
		late.Start()
	}()
	if err := w.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
}

// TestServerOfNobodyElse checks that a server that nobody but the run asked is not drained, which can take long.
func TestServerOfNobodyElse(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	if err := w.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
	w.undo(t)
	w.wantServerEnd(t, "killed")
}

// TestDrainLeavesTimeToRemove checks that a server that does not stop in what time a run grants to its end is removed all the same.
func TestDrainLeavesTimeToRemove(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.tools.Handover = handover(false)
	w.make(t, steps.IDServe)
	w.instead(steps.IDServe, func(ctx context.Context, _ container.Spec, _ container.Streams) int {
		containertest.Terminated(ctx) // and does not heed it
		go w.relay(ctx, w.triton().Addr())
		<-ctx.Done()
		return 137
	})
	if err := w.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
	undos := w.undos
	w.undos = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 8500*time.Millisecond)
	defer cancel()
	for _, undo := range undos {
		if err := undo(ctx); err != nil {
			t.Error(err)
		}
	}
	if end, _ := ctx.Deadline(); time.Until(end) < 4*time.Second {
		t.Errorf("%s were left to remove it", time.Until(end))
	}
	w.wantNoContainer(t)
}

// handover keeps a server for others, and calls nobody when it is ready.
func handover(detach bool) *steps.Handover {
	ready := func(context.Context, result.Server) error { return nil }
	return &steps.Handover{Repository: stored, Ready: ready, Detach: detach}
}

// stored serves the model repository in the cache itself.
func stored(_ context.Context, folder string) (string, error) { return folder, nil }

// What the server of a workspace serves is the workspace's own folder; a folder that cannot be made starts no server.
func TestHandoverRepository(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own")
	errFull := errors.New("disk is full")
	for _, want := range []error{nil, errFull} {
		w := cpuLocal(t)
		var asked string
		w.tools.Handover = handover(false)
		w.tools.Handover.Repository = func(_ context.Context, folder string) (string, error) {
			if asked = folder; want != nil {
				return "", want
			}
			return own, os.CopyFS(own, os.DirFS(folder))
		}
		err := w.run(t, t.Context(), steps.IDServe)
		if !errors.Is(err, want) || asked == "" || asked == own {
			t.Fatalf("asked for %q: %v", asked, err)
		}
		var mounts []container.Mount
		for _, s := range w.fake.Specs() {
			if s.Step == string(steps.IDServe) {
				mounts = s.Inputs
			}
		}
		if (want == nil) != (len(mounts) == 1 && mounts[0].Source == own) {
			t.Errorf("with the error %v it serves %v", want, mounts)
		}
		w.undo(t)
	}
}

func TestDetached(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	var handedOver result.Server
	w.tools.Handover = &steps.Handover{Repository: stored, Detach: true, Ready: func(_ context.Context, s result.Server) error {
		handedOver = s
		return nil
	}}
	if err := w.run(t, t.Context(), steps.IDServe); err != nil {
		t.Fatal(err)
	}
	for _, undo := range w.undos {
		if err := undo(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.undos = nil
	left := w.fake.Leaked()
	if len(left) != 1 || !left[0].Running || left[0].ID != handedOver.Container {
		t.Fatalf("the end of the run left %+v; ready was told of %+v", left, handedOver)
	}
	client, err := triton.Dial(handedOver.GRPC.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := client.Classify(t.Context(), "ensemble_dali_resnet50", coffee(), 1); err != nil {
		t.Errorf("the server that was left does not answer: %v", err)
	}
	if err := w.fake.Remove(t.Context(), left[0].ID); err != nil {
		t.Error(err)
	}
}

// TestReadyFails checks that a server that nobody will find again does not stay, also one that was to be detached.
func TestReadyFails(t *testing.T) {
	t.Parallel()
	for name, detach := range map[string]bool{"attached": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			errFull := errors.New("disk is full")
			w.tools.Handover = &steps.Handover{
				Repository: stored, Ready: func(context.Context, result.Server) error { return errFull }, Detach: detach,
			}
			if err := w.run(t, t.Context(), steps.IDServe); !errors.Is(err, errFull) {
				t.Errorf("got %v, want %v", err, errFull)
			}
			w.undo(t)
			w.wantServerEnd(t, "drained")
		})
	}
}

// TestServeCancelled checks that a server that never served is killed at once: a loading tritonserver ignores SIGTERM.
func TestServeCancelled(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	errStopped := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	w.serveModels(t, faults{load: map[string]func(context.Context) error{
		"resnet50_onnx": func(ctx context.Context) error { cancel(errStopped); <-ctx.Done(); return ctx.Err() },
	}})
	if err := w.run(t, ctx, steps.IDServe); !errors.Is(err, errStopped) {
		t.Errorf("got %v, want %v", err, errStopped)
	}
	w.undo(t)
	w.wantServerEnd(t, "killed")
}
