//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/triton"
)

// health is what ps --format json says of a server.
type health struct{ State, Model, Reason, Mend string }

// healthOf asks ps for the server of a workspace.
func healthOf(t *testing.T, e engine, o opts) health {
	t.Helper()
	var rows []struct {
		Workspace, Lane, Weights string
		Source                   string `json:"image_source"`
		LabelsMeanNothing        bool   `json:"labels_mean_nothing"`
		Health                   health
	}
	r := mustRun(t, 0, e, o, "ps", "--format", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		t.Fatalf("%v\n%s", err, r.Stdout)
	}
	if r.Duration > 15*time.Second {
		t.Errorf("ps took %s", r.Duration)
	}
	for _, row := range rows {
		if row.Workspace != workspace(o.Dir) {
			continue
		}
		if row.Lane != "cpu" || row.Source != "local" || row.Weights != "random:0" || !row.LabelsMeanNothing {
			t.Errorf("what is served: %+v", row)
		}
		return row.Health
	}
	t.Fatalf("ps lists no server of %s:\n%s", workspace(o.Dir), r.Stdout)
	return health{}
}

// server is the container of a workspace, which has one.
func (c cpu) server(t *testing.T, o opts) string {
	t.Helper()
	all := c.engine.containers(t, workspace(o.Dir))
	if len(all) != 1 {
		t.Fatalf("containers: %v", all)
	}
	return name(all[0])
}

// killStub kills the Python process of the DALI model, in the server's container.
func (c cpu) killStub(t *testing.T, o opts) {
	t.Helper()
	const script = `for p in /proc/[0-9]*; do
		case $(tr '\0' ' ' <$p/cmdline) in
		/opt/*/triton_python_backend_stub\ /models/dali/*) kill -9 ${p#/proc/} && exit 7 ;;
		esac
	done`
	api, id := c.engine.client(t), c.server(t, o)
	created, err := api.ContainerExecCreate(t.Context(), id, dcontainer.ExecOptions{Cmd: []string{"sh", "-c", script}})
	if err == nil {
		err = api.ContainerExecStart(t.Context(), created.ID, dcontainer.ExecStartOptions{})
	}
	deadline := time.Now().Add(30 * time.Second)
	for err == nil && time.Now().Before(deadline) {
		var state dcontainer.ExecInspect
		if state, err = api.ContainerExecInspect(t.Context(), created.ID); err == nil && !state.Running {
			if state.ExitCode != 7 {
				t.Fatalf("no stub was found: exit code %d", state.ExitCode)
			}
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("kill the stub: %v", err)
}

// detached starts a server that stays, and stops it at the end of a test that failed.
func (c cpu) detached(t *testing.T, flags ...string) opts {
	t.Helper()
	o := opts{Dir: t.TempDir(), Path: []string{filepath.Dir(dalirun)}}
	mustRun(t, 0, c.engine, o, c.args("serve", append(flags, "--detach")...)...)
	t.Cleanup(func() { run(t, c.engine, o, "stop") }) // no run sweeps the server of a workspace that is gone
	return o
}

// ownPorts are flags with ports that nothing else here takes, also while they are free: neither usual ones nor those that the system picks.
func ownPorts(t *testing.T) []string {
	t.Helper()
	var flags []string
	for _, flag := range []string{"--http-port", "--grpc-port", "--metrics-port"} {
		for {
			port := strconv.Itoa(20_000 + rand.IntN(10_000))
			if l, err := net.Listen("tcp4", "127.0.0.1:"+port); err == nil {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				flags = append(flags, flag, port)
				break
			}
		}
	}
	return flags
}

// mends runs the command that dalirun printed, in a folder that has nothing to do with the server: after it a picture is
// classified.
func (c cpu) mends(t *testing.T, o opts, command, picture string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	sh := exec.CommandContext(ctx, "sh", "-c", command)
	sh.Dir = t.TempDir()
	sh.Env = o.environment(c.engine, o.Dir)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	mustRun(t, 0, c.engine, o, "classify", picture)
	if h := healthOf(t, c.engine, o); h != (health{State: "healthy"}) {
		t.Errorf("after %s: %+v", command, h)
	}
}

// TestDeadModel kills the process of a model. Triton stays ready; every inference fails.
func TestDeadModel(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t)
	picture := write(t, o.Dir, "coffee.jpg", sample(t))
	if h := healthOf(t, c.engine, o); h != (health{State: "healthy"}) {
		t.Errorf("%+v", h)
	}
	c.killStub(t, o)
	h := healthOf(t, c.engine, o)
	if h.State != "failing" || h.Model != "ensemble_dali_resnet50" || !strings.Contains(h.Reason, "dali") || h.Mend == "" {
		t.Fatalf("%+v", h)
	}
	r := mustRun(t, 5, c.engine, o, "classify", picture)
	if !strings.Contains(r.Stderr, "is not healthy") || !strings.Contains(r.Stderr, "hint: `"+h.Mend+"` mends it") {
		t.Errorf("classify:\n%s", r.Stderr)
	}
	c.mends(t, o, h.Mend, picture)

	c.killStub(t, o)
	r = mustRun(t, 0, c.engine, o, "stop")
	t.Logf("stop took %s", r.Duration.Round(time.Millisecond))
	if r.Duration > 3*time.Second { // 1.8 s were seen; a drain takes 30 s
		t.Errorf("stop of a dead model took %s", r.Duration)
	}
	c.checkNoContainer(t, o.Dir)
}

// TestDeadModelInForeground kills the process of a model of a foreground serve, which notices by itself; Ctrl-C and stop do
// not wait for a drain either.
func TestDeadModelInForeground(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir(), Path: []string{filepath.Dir(dalirun)}}
	p := start(t, c.engine, o, c.args("serve")...)
	p.ready(t)
	if h := healthOf(t, c.engine, o); h != (health{State: "healthy"}) {
		t.Errorf("%+v", h)
	}
	c.killStub(t, o)
	killed := time.Now()
	r := p.wait(t)
	t.Logf("serve noticed after %s", time.Since(killed).Round(time.Millisecond))
	if r.Code != 5 || !strings.Contains(r.Stderr, "is not healthy: "+"ensemble_dali_resnet50"+": ") || !strings.Contains(r.Stderr, "starts it again") || time.Since(killed) > time.Minute {
		t.Errorf("exit code %d after %s\n%s", r.Code, time.Since(killed), r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)

	p = start(t, c.engine, o, c.args("serve")...)
	p.ready(t)
	c.killStub(t, o)
	picture := write(t, o.Dir, "coffee.jpg", sample(t))
	mend := healthOf(t, c.engine, o).Mend
	stop, restart, both := strings.Cut(mend, " && ")
	if !both || strings.Contains(restart, "--detach") {
		t.Fatalf("the command that mends it: %s", mend)
	}
	c.mends(t, o, stop+" && "+restart+" --detach", picture) // the serve whose server is gone must not be in the way
	if r := p.wait(t); r.Code != 0 {
		t.Errorf("a serve whose server was stopped: exit code %d\n%s", r.Code, r.Stderr)
	}
	mustRun(t, 0, c.engine, o, "stop")
	c.checkNoContainer(t, o.Dir)
}

// TestServerTakenAway takes the server of a foreground serve away behind dalirun's back.
func TestServerTakenAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		take  func(ctx context.Context, api *client.Client, id string) error
		words string
	}{
		"removed": {func(ctx context.Context, api *client.Client, id string) error {
			return api.ContainerRemove(ctx, id, dcontainer.RemoveOptions{Force: true})
		}, "was removed, and not by dalirun"},
		"stopped": {func(ctx context.Context, api *client.Client, id string) error {
			return api.ContainerStop(ctx, id, dcontainer.StopOptions{})
		}, "was stopped, and not by dalirun"},
		"restarted": {func(ctx context.Context, api *client.Client, id string) error {
			return api.ContainerRestart(ctx, id, dcontainer.StopOptions{})
		}, "was restarted, and not by dalirun"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cpuLane(t)
			o := opts{Dir: t.TempDir()}
			p := start(t, c.engine, o, c.args("serve", ownPorts(t)...)...)
			p.ready(t)
			if err := tt.take(t.Context(), c.engine.client(t), c.server(t, o)); err != nil {
				t.Fatal(err)
			}
			if r := p.wait(t); r.Code != 5 || !strings.Contains(r.Stderr, tt.words) || !strings.Contains(r.Stderr, "starts it again") {
				t.Errorf("exit code %d, want 5 and %q\n%s", r.Code, tt.words, r.Stderr)
			}
			c.checkNoContainer(t, o.Dir)
		})
	}
}

// TestRestartedServer kills a server and starts it again behind dalirun's back: it is live and ready, and has no models.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t, ownPorts(t)...) // another test could take a usual port while the server is down
	picture := write(t, o.Dir, "coffee.jpg", sample(t))
	api, id := c.engine.client(t), c.server(t, o)
	if err := api.ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	if h := healthOf(t, c.engine, o); h.State != "ended" || h.Mend == "" {
		t.Errorf("before it is started again: %+v", h)
	}
	if err := api.ContainerStart(t.Context(), id, dcontainer.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	var h health
	for deadline := time.Now().Add(30 * time.Second); h.State != "unloaded" && time.Now().Before(deadline); {
		h = healthOf(t, c.engine, o) // silent until it listens
	}
	if h.State != "unloaded" || h.Reason != "it was restarted and has no models loaded" {
		t.Fatalf("%+v", h)
	}
	if r := mustRun(t, 5, c.engine, o, "classify", picture); !strings.Contains(r.Stderr, "it was restarted and has no models loaded") {
		t.Errorf("classify:\n%s", r.Stderr)
	}
	c.mends(t, o, h.Mend, picture)
	mustRun(t, 0, c.engine, o, "stop")
	c.checkNoContainer(t, o.Dir)
}

// TestPausedServer pauses a server, which then answers nothing at all, and is mended with its models loaded. A stop of
// one that is paused drains it.
func TestPausedServer(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t)
	if err := c.engine.client(t).ContainerPause(t.Context(), c.server(t, o)); err != nil {
		t.Fatal(err)
	}
	h := healthOf(t, c.engine, o)
	if h.State != "silent" || h.Reason != "its container is paused" || !strings.Contains(h.Mend, "docker unpause ") {
		t.Errorf("%+v", h)
	}
	c.mends(t, o, h.Mend, write(t, o.Dir, "coffee.jpg", sample(t)))
	if err := c.engine.client(t).ContainerPause(t.Context(), c.server(t, o)); err != nil {
		t.Fatal(err)
	}
	if r := mustRun(t, 0, c.engine, o, "stop"); r.Duration > 8*time.Second || !strings.Contains(r.Stderr, "is paused: it goes on") {
		t.Errorf("stop of a server that is paused took %s:\n%s", r.Duration, r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)
}

// TestBusyServer has eight clients, so that a picture waits behind others: a server that is busy does its work, and is drained.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t)
	r := mustRun(t, 0, c.engine, o, "ps", "--format", "json")
	var rows []struct{ Workspace, GRPC string }
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		t.Fatal(err)
	}
	var grpc string
	for _, row := range rows {
		if row.Workspace == workspace(o.Dir) {
			grpc = row.GRPC
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var answered atomic.Int64
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for range 8 {
		clients.Go(func() {
			client, err := triton.Dial(grpc)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close() //nolint:errcheck // nothing is in flight
			for ctx.Err() == nil {
				if _, err := client.Classify(ctx, "ensemble_dali_resnet50", sample(t), 1); err != nil {
					return // the server stops, or the test is over
				}
				answered.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); answered.Load() < 16 && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
	}
	for range 3 {
		if h := healthOf(t, c.engine, o); h.State != "healthy" && h.State != "busy" {
			t.Errorf("%+v", h)
		}
	}
	drained := stopped(t, c.engine, workspace(o.Dir))
	before := answered.Load()
	r = mustRun(t, 0, c.engine, o, "stop")
	if !drained() || strings.Contains(r.Stderr, "nothing to drain") {
		t.Errorf("it was not asked to stop in good order:\n%s", r.Stderr)
	}
	t.Logf("%d requests were answered before stop, %d after", before, answered.Load()-before)
	c.checkNoContainer(t, o.Dir)
}
