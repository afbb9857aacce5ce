package steps_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// chosenGPU is the GPU that these runs build on.
var chosenGPU = host.GPU{UUID: "GPU-b2b10123", Name: "NVIDIA H100 80GB HBM3"}

// turns gives a run its turn on chosenGPU, by leases in a folder.
func (w *world) turns(folder string, wait time.Duration) {
	w.target.Chosen = []host.GPU{chosenGPU}
	w.tools.GPUTurn = &steps.GPUTurn{
		Leases: host.Leases{Folder: folder, Poll: time.Millisecond}, GPUs: w.target.Chosen,
		Me: host.Holder{PID: os.Getpid(), User: "joe", Run: "r2"}, Wait: wait,
	}
}

// taken has somebody else take the lease of chosenGPU.
func taken(t *testing.T, folder string) *host.Lease {
	t.Helper()
	maria := host.Holder{PID: 123, User: "maria", Run: "r1", Command: "dalirun e2e", Workspace: "/home/maria/w", Doing: "builds an engine"}
	lease, err := host.Leases{Folder: folder}.Take(t.Context(), []host.GPU{chosenGPU}, maria, 0, host.LeaseObserver{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lease.Release)
	return lease
}

func (w *world) warnings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, p := range w.payloads {
		if warning, ok := p.(pipeline.Warning); ok {
			all = append(all, warning.Text)
		}
	}
	return all
}

// TestBuildWaitsForGPU waits for another job to build, says once who that is, and has the GPU alone while trtexec runs.
func TestBuildWaitsForGPU(t *testing.T) {
	t.Parallel()
	w, folder := gpuNGC(t), t.TempDir()
	w.turns(folder, time.Minute)
	w.make(t, steps.IDBuildEngine)
	lease := taken(t, folder)
	var asked atomic.Bool
	w.tools.GPUMemory = func(context.Context) (trtexec.GPUMemory, error) {
		asked.Store(true) // of what the other job has taken nothing is left
		return trtexec.GPUMemory{}, nil
	}
	build := w.trtexec(fakeBuild{})
	w.instead(steps.IDBuildEngine, func(ctx context.Context, spec container.Spec, out container.Streams) int {
		_, err := host.Leases{Folder: folder}.Take(ctx, []host.GPU{chosenGPU}, host.Holder{}, 0, host.LeaseObserver{})
		if busy, ok := errors.AsType[*host.BusyError](err); !ok || busy.Holder.Run != "r2" || busy.Holder.Doing != "builds an engine" {
			t.Errorf("while trtexec runs the lease is %v", err)
		}
		return build(ctx, spec, out)
	})
	ended := make(chan error, 1)
	go func() { ended <- w.run(t, t.Context(), steps.IDBuildEngine) }()
	const waits = "waits for GPU 0 (NVIDIA H100 80GB HBM3), on which PID 123 of maria builds an engine, since "
	for !w.emitted(waits) {
		select {
		case err := <-ended:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if asked.Load() || slices.Contains(w.ran(), string(steps.IDBuildEngine)) {
		t.Errorf("it did not wait with the build, or with a look at the memory (%t)", asked.Load())
	}
	lease.Release()
	if err := <-ended; err != nil || !asked.Load() {
		t.Fatalf("%v; the memory was looked at: %t", err, asked.Load())
	}
	warned := w.warnings()
	if len(warned) != 1 || !strings.HasPrefix(warned[0], waits) || !strings.HasSuffix(warned[0], " (`dalirun e2e`, run r1, in /home/maria/w); for 1m0s at most") {
		t.Errorf("it warns %q", warned)
	}
	taken(t, folder) // it was given back
}

// TestBuildDoesNotWait ends with the holder, and with what to do: also where the wait is 0.
func TestBuildDoesNotWait(t *testing.T) {
	t.Parallel()
	w, folder := gpuNGC(t), t.TempDir()
	w.make(t, steps.IDBuildEngine)
	taken(t, folder)
	for wait, want := range map[time.Duration]string{
		0:                     "GPU 0 (NVIDIA H100 80GB HBM3) is not free: on it PID 123 of maria builds an engine, since ",
		10 * time.Millisecond: "GPU 0 (NVIDIA H100 80GB HBM3) was not free for 10ms: on it PID 123 of maria builds an engine, since ",
	} {
		w.turns(folder, wait)
		f := fault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.Environment)
		if !strings.HasPrefix(f.Error(), want) || !strings.HasPrefix(f.Hint, "wait longer with --gpu-wait, ") {
			t.Errorf("%s: got %q with the hint %q", wait, f, f.Hint)
		}
	}
	errStopped := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	w.turns(folder, time.Hour)
	time.AfterFunc(20*time.Millisecond, func() { cancel(errStopped) })
	if err := w.run(t, ctx, steps.IDBuildEngine); !errors.Is(err, errStopped) {
		t.Errorf("interrupted: %v", err)
	}
	if slices.Contains(w.ran(), string(steps.IDBuildEngine)) {
		t.Error("a build was begun")
	}
}

// TestFailedBuildGivesGPUBack checks that the end of a build is the end of its turn, however it ends.
func TestFailedBuildGivesGPUBack(t *testing.T) {
	t.Parallel()
	w, folder := gpuNGC(t), t.TempDir()
	w.turns(folder, 0)
	w.instead(steps.IDBuildEngine, prints(1, "Cuda failure: out of memory"))
	wantFault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
	w.setGPUMemory(1000, 16384)
	wantFault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.Environment)
	taken(t, folder)
}

// TestTurnAfterKilledJob removes what a job left on the GPU that did not give it back.
func TestTurnAfterKilledJob(t *testing.T) {
	t.Parallel()
	w, folder := gpuNGC(t), t.TempDir()
	w.turns(folder, time.Minute)
	cleared := 0
	w.tools.GPUTurn.Clear = func(context.Context) { cleared++ }
	turn := func() {
		release, err := w.tools.GPUTurn.Take(t.Context(), "measures", w.emit)
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	taken(t, folder).Release()
	if turn(); cleared != 0 {
		t.Error("what another job gave back was cleared")
	}
	file := folder + "/dalirun-" + chosenGPU.UUID + ".lock"
	if err := os.WriteFile(file, []byte(`{"pid":123}`), 0o666); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if turn(); cleared != 1 {
			t.Errorf("cleared %d times", cleared)
		}
	}
}

// TestBuildWithoutLease builds all the same where there can be no lease, and says so.
func TestBuildWithoutLease(t *testing.T) {
	t.Parallel()
	w, folder := gpuNGC(t), t.TempDir()
	w.turns(folder, 0)
	if err := os.Symlink("/etc/passwd", folder+"/dalirun-"+chosenGPU.UUID+".lock"); err != nil {
		t.Fatal(err)
	}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	if !w.emitted("GPU 0 (NVIDIA H100 80GB HBM3) has no lease, and another job may build or measure on it at the same time: open ") || !w.emitted("it is a symbolic link") {
		t.Errorf("it warns %q", w.warnings())
	}
}

// TestNeighbours builds beside others: the engine is used, and what it measured is not kept.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	python := host.Process{GPU: chosenGPU.UUID, PID: 500, Name: "python3", MemoryMiB: 1542}
	triton := host.Process{GPU: "GPU-other", PID: 7, Name: "triton\x1b[31mserver"}
	hidden := host.Process{GPU: chosenGPU.UUID, PID: 9, Hidden: true}
	const (
		pythons = "python3 (PID 500, 1.506 GiB) on GPU 0 (NVIDIA H100 80GB HBM3)"
		secret  = "a program without a name (PID 9) on GPU 0 (NVIDIA H100 80GB HBM3), which may be of this workspace's own server"
		kept    = "; the engine is used, but the times of its kernels are not kept: the next build times them anew"
	)
	for name, c := range map[string]struct {
		before, after       []host.Process
		errBefore, errAfter error
		warnings            []string
		next                string // of the times of kernels
	}{
		"nobody":      {nil, nil, nil, nil, nil, warm},
		"before":      {[]host.Process{python, triton}, nil, nil, nil, []string{"others compute where the engine is built: " + pythons + " and tritonserver (PID 7)" + kept}, cold},
		"all along":   {[]host.Process{python}, []host.Process{python}, nil, nil, []string{"others compute where the engine is built: " + pythons + kept}, cold},
		"came":        {nil, []host.Process{python}, nil, nil, []string{"others came to compute where the engine was built: " + pythons + kept}, cold},
		"cannot tell": {nil, nil, errors.New("nvidia-smi hangs"), nil, []string{"who else computes on the GPU is not known: nvidia-smi hangs"}, warm},
		"not after":   {nil, nil, nil, errors.New("nvidia-smi hangs"), []string{"who else computes on the GPU is not known: nvidia-smi hangs"}, warm},
		"hidden":      {nil, []host.Process{hidden}, nil, nil, []string{"others came to compute where the engine was built: " + secret + kept}, cold},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.tools.TimingCache, p.target.Chosen = p.store, []host.GPU{chosenGPU}
			asked := 0
			p.tools.Neighbours = func(context.Context) ([]host.Process, error) {
				if asked++; asked == 1 {
					return c.before, c.errBefore
				}
				return slices.Clone(c.after), c.errAfter
			}
			if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.warnings, p.warnings()); diff != "" {
				t.Errorf("the warnings (-want +got):\n%s", diff)
			}
			if want := 2; c.errBefore == nil && asked != want {
				t.Errorf("nvidia-smi was asked %d times", asked)
			}
			p.tools.Neighbours = nil
			before := len(p.progress())
			if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			if got := p.progress()[before:]; !slices.Contains(got, c.next) {
				t.Errorf("the next build says %q, not %q", got, c.next)
			}
		})
	}
}

// TestNeighboursOfFailedBuild asks nobody a second time where there is nothing to keep.
func TestNeighboursOfFailedBuild(t *testing.T) {
	t.Parallel()
	w, asked := gpuNGC(t), 0
	w.tools.Neighbours = func(context.Context) ([]host.Process, error) {
		asked++
		return nil, nil
	}
	w.instead(steps.IDBuildEngine, prints(1, "Cuda failure: out of memory"))
	wantFault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
