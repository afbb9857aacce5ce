//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// oneGPU is a GPU that no other test has, on which an engine takes some time to build.
type oneGPU struct {
	lane
	uuid  string
	quick string // registry of images whose build takes two seconds
	slow  string // registry of images whose build takes until it is killed
}

// TestGPUTurn has jobs of several workspaces build on one GPU, each with a cache of its own.
//
//nolint:paralleltest,tparallel // the methods use the GPU in turn
func TestGPUTurn(t *testing.T) {
	t.Parallel()
	g := oneGPU{lane: newLane(t), uuid: fmt.Sprintf("GPU-%08x-0000-0000-0000-%012x", os.Getpid(), time.Now().UnixNano()&(1<<48-1))}
	t.Cleanup(func() {
		for _, file := range g.locks() {
			_ = os.Remove(file) // there is one of them
		}
	})
	g.smi = nvidiaSMI(t)
	query := filepath.Join(g.smi, "nvidia-smi-query.csv")
	text, err := os.ReadFile(query)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), "GPU-b2b10123-43d8-7094-32ab-39106cb54c35", g.uuid, 1)
	if err := os.WriteFile(query, []byte(other), 0o644); err != nil || other == string(text) {
		t.Fatalf("the GPU's UUID is not where it was looked for: %v\n%s", err, text)
	}
	for lasts, registry := range map[string]*string{"2s": &g.quick, "1h": &g.slow} {
		*registry = stubRegistry + "/lasts-" + lasts
		g.stubs.tag(t, pytorchRef(stubRegistry, "25.03"), pytorchRef(*registry, "25.03"))
		g.stubs.triton(t, tritonRef(*registry, "25.03"), append(slices.Clone(triton2503), "STUB_GPU="+g.uuid, "STUB_BUILD_TIME="+lasts)...)
	}
	t.Run("two workspaces", g.testTwoWorkspaces)
	t.Run("killed", g.testKilled)
	t.Run("interrupted", g.testInterrupted)
	t.Run("neighbours", g.testNeighbours)
	t.Run("measuring", g.testMeasuring)
}

// locks are where the GPU's lease can be.
func (g oneGPU) locks() []string {
	return []string{"/run/lock/dalirun-" + g.uuid + ".lock", "/tmp/dalirun-" + g.uuid + ".lock"}
}

// builds are when trtexec's containers ran, by what the engine tells of them.
type builds struct {
	mu    sync.Mutex
	spans map[string]*span // by the container's ID
}

type span struct {
	container    string // ID
	workspace    string
	began, ended time.Time
}

func watchBuilds(t *testing.T, e engine) *builds {
	t.Helper()
	b := &builds{spans: map[string]*span{}}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	messages, _ := e.client(t).Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("event", "start"), filters.Arg("event", "die"),
		filters.Arg("label", container.LabelStep+"="+string(steps.IDBuildEngine)),
	)})
	go func() {
		for {
			select {
			case m := <-messages:
				b.mu.Lock()
				at := time.Unix(0, m.TimeNano)
				if m.Action == events.ActionStart {
					b.spans[m.Actor.ID] = &span{container: m.Actor.ID, workspace: m.Actor.Attributes[container.LabelWorkspace], began: at}
				} else if s := b.spans[m.Actor.ID]; s != nil {
					s.ended = at
				}
				b.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
	return b
}

// of returns those of a workspace.
func (b *builds) of(workspace string) []span {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []span
	for _, s := range b.spans {
		if s.workspace == workspace {
			all = append(all, *s)
		}
	}
	return all
}

// checkAlone fails the test unless so many builds ran, one after the other.
func (b *builds) checkAlone(t *testing.T, want int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []span
	for _, s := range b.spans {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(x, y span) int { return x.began.Compare(y.began) })
	if len(all) != want {
		t.Errorf("%d builds ran, want %d: %+v", len(all), want, all)
	}
	for i := 1; i < len(all); i++ {
		if all[i-1].ended.IsZero() || all[i].began.Before(all[i-1].ended) {
			t.Errorf("two builds ran at once: %+v", all)
		}
	}
}

// build starts an e2e, and returns once trtexec runs.
func (g oneGPU) build(t *testing.T, b *builds, o opts, registry string) *process {
	t.Helper()
	p := start(t, g.engine, o, append([]string{"e2e", "--progress", "json"}, flags(registry, "25.03")...)...)
	p.until(t, "trtexec", func() bool { return len(b.of(workspace(o.Dir))) > 0 })
	return p
}

// waits starts another e2e, and returns once it waits for a process that builds in a workspace.
func (g oneGPU) waits(t *testing.T, o opts, holder *process, in string, further ...string) *process {
	t.Helper()
	p := start(t, g.engine, o, append([]string{"e2e", "--progress", "json", "--format", "json"}, flags(g.quick, "25.03", further...)...)...)
	p.until(t, "it waits", func() bool { return strings.Contains(p.stderr.String(), "waits for GPU") })
	runs, err := os.ReadDir(owner.RunsDir(workspace(in)))
	if err != nil || len(runs) != 1 {
		t.Fatalf("the runs of %s are %v, %v", in, runs, err)
	}
	for _, want := range []string{
		fmt.Sprintf("waits for GPU 0 (NVIDIA H100 80GB HBM3), on which PID %d of root builds an engine, since ", holder.cmd.Process.Pid),
		"(`dalirun e2e`, run " + runs[0].Name() + ", in " + workspace(in) + "); for 20m0s at most",
	} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &p.stderr)
		}
	}
	return p
}

func (g oneGPU) testTwoWorkspaces(t *testing.T) {
	b := watchBuilds(t, g.engine)
	first, second := g.opts(t), g.opts(t)
	holder := g.build(t, b, first, g.quick)
	trtexec := b.of(workspace(first.Dir))[0].container
	if err := g.engine.client(t).ContainerPause(t.Context(), trtexec); err != nil { // until there is who waits for it
		t.Fatal(err)
	}
	waiter := g.waits(t, second, holder, first.Dir)
	if err := g.engine.client(t).ContainerUnpause(t.Context(), trtexec); err != nil {
		t.Fatal(err)
	}
	r := waiter.wait(t)
	if r.Code != 0 {
		t.Fatalf("the second ended with %d\n%s", r.Code, r.Stderr)
	}
	waited := func(text string) bool { return strings.HasPrefix(text, "build-engine: waits for GPU 0 ") }
	if out := read(t, second, r); !slices.ContainsFunc(out.Warnings, waited) {
		t.Errorf("the report's warnings are %q", out.Warnings)
	}
	if r := holder.wait(t); r.Code != 0 || strings.Contains(r.Stderr, "waits for GPU") {
		t.Errorf("the first ended with %d\n%s", r.Code, r.Stderr)
	}
	b.checkAlone(t, 2)

	// While somebody builds, who takes the engine from the cache waits for nobody; who has no time is told who builds.
	third := g.opts(t)
	holder = g.build(t, b, third, g.slow)
	cached, _ := g.e2e(t, second, 0, flags(g.quick, "25.03")...)
	if state := cached.states()[steps.IDBuildEngine]; state != pipeline.Cached || slices.ContainsFunc(cached.Warnings, waited) {
		t.Errorf("from the cache it was %s, with the warnings %q", state, cached.Warnings)
	}
	_, refused := g.e2e(t, second, 3, flags(g.quick, "25.03", "--opt-batch", "8", "--gpu-wait", "0")...)
	refused.says(t, "build-engine failed after", fmt.Sprintf("GPU 0 (NVIDIA H100 80GB HBM3) is not free: on it PID %d of root builds an engine", holder.cmd.Process.Pid),
		"in "+workspace(third.Dir)+")", "hint: wait longer with --gpu-wait")
	holder.signal(t, syscall.SIGTERM)
	holder.wait(t)
	b.checkAlone(t, 3)
}

// testKilled kills the one that builds: the next one has the GPU within a second, and what the dead one left there is removed first.
func (g oneGPU) testKilled(t *testing.T) {
	b := watchBuilds(t, g.engine)
	first, second := g.opts(t), g.opts(t)
	holder := g.build(t, b, first, g.slow)
	waiter := g.waits(t, second, holder, first.Dir)
	killed := time.Now()
	holder.signal(t, syscall.SIGKILL)
	holder.wait(t)
	r := waiter.wait(t)
	if r.Code != 0 {
		t.Fatalf("it ended with %d\n%s", r.Code, r.Stderr)
	}
	r.says(t, "removed container ", "it is this job's turn, after ")
	for line := range strings.Lines(r.Stderr) {
		var event struct {
			Time time.Time `json:"time"`
			Data struct {
				Text string `json:"text"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		if took := event.Time.Sub(killed); strings.HasPrefix(event.Data.Text, "it is this job's turn") && took > time.Second {
			t.Errorf("it had the GPU %s after the kill", took)
		}
	}
	b.checkAlone(t, 2)
}

// testInterrupted ends the wait by a signal, at once and with nothing left.
func (g oneGPU) testInterrupted(t *testing.T) {
	b := watchBuilds(t, g.engine)
	first, second := g.opts(t), g.opts(t)
	holder := g.build(t, b, first, g.slow)
	waiter := g.waits(t, second, holder, first.Dir)
	asked := time.Now()
	waiter.signal(t, os.Interrupt)
	if r := waiter.wait(t); r.Code != 130 || time.Since(asked) > 5*time.Second { // this machine may be busy
		t.Errorf("it ended with %d after %s\n%s", r.Code, time.Since(asked), r.Stderr)
	}
	holder.signal(t, syscall.SIGTERM)
	holder.wait(t)
	b.checkAlone(t, 1)
}

// testNeighbours has the server of a workspace on the GPU: beside it the workspace itself builds as ever, and another one is warned.
func (g oneGPU) testNeighbours(t *testing.T) {
	own, other := g.opts(t), g.opts(t)
	mustRun(t, 0, g.engine, own, append([]string{"serve", "--detach"}, flags(g.quick, "25.03")...)...)
	t.Cleanup(func() { mustRun(t, 0, g.engine, own, "stop") })
	server, err := owner.ReadServer(workspace(own.Dir))
	if err != nil || !slices.Equal(server.GPUUUIDs, []string{g.uuid}) {
		t.Fatalf("the server's file has the GPUs %q, %v", server.GPUUUIDs, err)
	}
	about, err := g.engine.client(t).ContainerInspect(t.Context(), server.Container)
	if err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(about.State.Pid)
	listed := g.uuid + ", " + pid + ", tritonserver, 2048\n"
	if err := os.WriteFile(filepath.Join(g.smi, smiProcesses), []byte(listed), 0o644); err != nil {
		t.Fatal(err)
	}
	const warning = "build-engine: others compute where the engine is built: "
	r := mustRun(t, 0, g.engine, own, append([]string{"setup"}, flags(g.quick, "25.03", "--opt-batch", "8")...)...)
	if strings.Contains(r.Stderr, "others c") {
		t.Errorf("its own server is told of:\n%s", r.Stderr)
	}
	for _, batch := range []string{"8", "16"} { // what the first measured is not kept
		out, _ := g.e2e(t, other, 0, flags(g.quick, "25.03", "--opt-batch", batch)...)
		out.checkBuild(t, coldBuild)
		want := warning + "tritonserver (PID " + pid + ", 2 GiB) on GPU 0 (NVIDIA H100 80GB HBM3)"
		if !slices.ContainsFunc(out.Warnings, func(text string) bool { return strings.HasPrefix(text, want) }) {
			t.Errorf("the report's warnings are %q, not %q", out.Warnings, want)
		}
	}
}

// testMeasuring has a tune search while another workspace's server is to be measured: only once the tune has ended it is.
func (g oneGPU) testMeasuring(t *testing.T) {
	own, other := g.opts(t), g.opts(t)
	mustRun(t, 0, g.engine, own, append([]string{"serve", "--detach"}, flags(g.quick, "25.03")...)...)
	t.Cleanup(func() { mustRun(t, 0, g.engine, own, "stop") })
	tune := start(t, g.engine, other, append([]string{"tune", "--budget", "1h"}, flags(g.quick, "25.03")...)...)
	tune.until(t, "the search", func() bool {
		return slices.ContainsFunc(g.locks(), func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), `"measures servers"`)
		})
	})
	bench := []string{"bench", "--concurrency", "1", "--duration", "100ms", "--gpu-wait", "0"}
	mustRun(t, 3, g.engine, own, bench...).says(t, fmt.Sprintf("%s is not free: on it PID %d of root measures servers", g.uuid, tune.cmd.Process.Pid),
		"(`dalirun tune`, run ", "in "+workspace(other.Dir)+")")
	tune.signal(t, os.Interrupt)
	if r := tune.wait(t); r.Code != 130 {
		t.Errorf("the tune ended with %d\n%s", r.Code, r.Stderr)
	}
	mustRun(t, 0, g.engine, own, bench...)
}
