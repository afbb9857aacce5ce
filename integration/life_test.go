//go:build integration

package integration

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/steps"
)

// TestSecondSignal interrupts a server that drains: an idle HTTP connection keeps it from ending for half a minute.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	p := start(t, c.engine, o, c.args("serve")...)
	p.ready(t)
	_, rest, _ := strings.Cut(p.stdout.String(), "http ")
	address, _, _ := strings.Cut(rest, " ")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/health/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{} // it keeps the connection
	t.Cleanup(transport.CloseIdleConnections)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", request.URL, answer.Status, err)
	}

	stopSent := stopped(t, c.engine, workspace(o.Dir))
	p.signal(t, syscall.SIGINT)
	p.until(t, "the server was asked to stop", stopSent)
	<-time.After(150 * time.Millisecond) // two within a tenth of a second are one
	second := time.Now()
	p.signal(t, syscall.SIGINT)
	r := p.wait(t)
	if took := time.Since(second); r.Code != 130 || took > 5*time.Second {
		t.Errorf("exit code %d, %s after the second Ctrl-C\n%s", r.Code, took, r.Stderr)
	}
	if left := c.engine.containers(t, workspace(o.Dir)); len(left) != 1 {
		t.Errorf("the server should still drain: %v", left)
	}
	mustRun(t, 0, c.engine, o, "gc", "--cache-dir", c.cache)
	c.checkNoContainer(t, o.Dir)
}

// stopped says whether a container of a workspace has been sent SIGTERM since.
func stopped(t *testing.T, e engine, workspace string) func() bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	messages, _ := e.client(t).Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("event", "kill"), filters.Arg("label", container.LabelWorkspace+"="+workspace),
	)})
	return func() bool {
		select {
		case m := <-messages:
			return m.Actor.Attributes["signal"] == "15"
		default:
			return false
		}
	}
}

// TestLivingRun starts others while a run works: they leave it alone.
func TestLivingRun(t *testing.T) {
	t.Parallel()
	c := cpuLane(t).withOwnCache(t, nil)
	c.bystanders(t)
	o, other := opts{Dir: t.TempDir()}, opts{Dir: t.TempDir()}
	created := watch(t, c.engine, workspace(o.Dir))
	living := start(t, c.engine, o, c.args("setup", "--force", string(steps.IDExportONNX))...)
	living.until(t, "the export's container", func() bool { return created.hasStep(string(steps.IDExportONNX)) })
	mustRun(t, 0, c.engine, other, "gc", "--cache-dir", c.cache)
	mustRun(t, 0, c.engine, other, c.args("setup")...)
	select {
	case <-living.ended:
		t.Errorf("it ended before the others:\n%s", &living.stderr)
	default:
	}
	mustRun(t, 0, c.engine, other, c.args("e2e")...)
	if r := living.wait(t); r.Code != 0 {
		t.Errorf("exit code %d beside another run\n%s", r.Code, r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)
	c.checkNoContainer(t, other.Dir)
	soundCache(t, c.cache)
}

// TestReadyServerStays kills serve --detach just when its server is ready. It stays until it is stopped, and one that was
// removed by hand is forgotten.
func TestReadyServerStays(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	o := l.opts(t)
	args := append([]string{"serve", "--detach", "--progress", "json"}, flags(stubRegistry, "25.03")...)
	p := start(t, l.engine, o, args...)
	event(steps.IDServe, "step.ended", "done").reach(t, &victim{process: p})
	p.signal(t, syscall.SIGKILL)
	if r := p.wait(t); r.Code != 0 && r.Code != 137 {
		t.Fatalf("exit code %d\n%s", r.Code, r.Stderr)
	}
	mustRun(t, 0, l.engine, o, "gc")
	mustRun(t, 0, l.engine, l.opts(t), "gc", "--cache-size", "0")
	server := l.engine.containers(t, workspace(o.Dir))
	if len(server) != 1 {
		t.Fatalf("containers: %v", server)
	}
	mustRun(t, 0, l.engine, o, "classify", write(t, o.Dir, "coffee.jpg", sample(t)))
	mustRun(t, 3, l.engine, o, args...)

	if err := l.engine.client(t).ContainerKill(t.Context(), name(server[0]), "KILL"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, 5, l.engine, o, "classify", "coffee.jpg")
	r := mustRun(t, 0, l.engine, o, args...)
	if !strings.Contains(r.Stderr, "it is forgotten") {
		t.Errorf("nothing is said of the server that was killed:\n%s", r.Stderr)
	}
	if again := l.engine.containers(t, workspace(o.Dir)); len(again) != 1 || name(again[0]) == name(server[0]) {
		t.Errorf("containers: %v", again)
	}
	mustRun(t, 0, l.engine, o, "stop")
}
