package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// Each container is a row; the servers of this host have their health and what they serve.
func TestProcesses(t *testing.T) {
	t.Parallel()
	w, beside := t.TempDir(), t.TempDir()
	seeded := true
	file := owner.ServerFile{Container: "id", Run: "r1", Served: owner.Served{Lane: "cpu", Weights: "random:7", LabelsMeanNothing: &seeded}}
	if err := owner.WriteServer(w, file); err != nil {
		t.Fatal(err)
	}
	batch := serverIn(w, "", container.LabelStep, "export-onnx", container.LabelRole, string(container.RoleBatch))
	foreign := serverIn(w, closed(t), container.LabelHost, "elsewhere")
	ill := serverIn(beside, broken(t))
	ill.ID = "ill"
	e := &engine{all: []container.Summary{serverIn(w, answering(t)), ill, batch, foreign}}
	rows, err := serversOn(e).Processes(t.Context())
	if err != nil || len(rows) != 4 {
		t.Fatalf("%+v, %v", rows, err)
	}
	if h := rows[0].Health; h == nil || !h.OK() || rows[0].Lane != "cpu" || !rows[0].Seeded() || rows[0].Workspace != w {
		t.Errorf("a healthy server: %+v, %+v", rows[0], h)
	}
	if h := rows[1].Health; h == nil || h.OK() || !strings.Contains(h.Reason, deadStub) || h.Mend == "" || rows[1].Seeded() {
		t.Errorf("one that is not: %+v, %+v", rows[1], h)
	}
	if rows[2].Health != nil || rows[2].Step != "export-onnx" || rows[3].Health != nil || rows[3].Owner != string(owner.Foreign) {
		t.Errorf("what is no server of this host: %+v and %+v", rows[2], rows[3])
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := serversOn(e).Processes(ctx); !errors.Is(err, stopped) {
		t.Errorf("stopped: %v", err)
	}
	e.fail = errors.New("the engine is ill")
	if _, err := serversOn(e).Processes(t.Context()); !errors.Is(err, e.fail) {
		t.Errorf("%v", err)
	}
}

// What is wrong with a server is said with the error of the inference, once.
func TestWithHealth(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	detached(t, w, "serve", "--detach")
	ill, well := broken(t), answering(t)
	for name, c := range map[string]struct {
		server, asked string
		err           error
		words, hint   string
	}{
		"ill": {ill, ill, pipeline.Faultf(pipeline.NotReady, "h", "no answer"), "no answer (the server server is ", "dalirun stop --workspace"},
		"ill, and said so": {
			ill, ill, pipeline.Faultf(pipeline.NotReady, "h", "x: %s", deadStub),
			"x: " + deadStub + " (the server server is not healthy)", "dalirun stop",
		},
		"well":            {well, well, pipeline.Faultf(pipeline.NotReady, "h", "no answer"), "no answer", "h"},
		"another address": {ill, closed(t), pipeline.Faultf(pipeline.NotReady, "h", "no answer"), "no answer", "h"},
		"of another kind": {ill, ill, pipeline.Usagef("h", "no picture"), "no picture", "h"},
	} {
		s := serversOn(&engine{all: []container.Summary{serverIn(w, c.server)}})
		got := s.WithHealth(t.Context(), c.asked, c.err)
		if !strings.HasPrefix(got.Error(), c.words) || !strings.Contains(pipeline.HintOf(got), c.hint) {
			t.Errorf("%s: %v (hint: %s)", name, got, pipeline.HintOf(got))
		}
	}
}

// The list of ps says why a server's health is not known.
func TestNotJudged(t *testing.T) {
	t.Parallel()
	h := Health{State: NotJudged, Reason: "no picture"}
	var b bytes.Buffer
	if err := WriteProcesses(&b, []Process{{Name: "s", Running: true, Health: &h}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "  unknown  ") || !strings.Contains(b.String(), "s is unknown: no picture\n") {
		t.Error(b.String())
	}
}

// Where a server is says who reaches it there.
func TestWriteAddresses(t *testing.T) {
	t.Parallel()
	const addresses = "grpc %s:8001 · http %s:8000 · metrics %s:8002\n"
	here := "here `dalirun classify` reaches it; `dalirun serve --host ADDRESS` publishes it for others\n"
	for want, c := range map[string]struct{ engine, host string }{
		"ready: " + addresses: {"", "127.0.0.1"},
		"ready: on the container engine's host, tcp://far:2375: " + addresses + here: {"tcp://far:2375", "127.0.0.1"},
		"ready: on the container engine's host, tcp://far:2376: " + addresses:        {"tcp://far:2376", "10.0.0.1"},
	} {
		var b bytes.Buffer
		file := owner.ServerFile{GRPC: c.host + ":8001", HTTP: c.host + ":8000", Metrics: c.host + ":8002", Engine: c.engine}
		if err := WriteAddresses(&b, file); err != nil || b.String() != strings.ReplaceAll(want, "%s", c.host) {
			t.Errorf("%v: %q, want %q", err, &b, want)
		}
		text, err := json.Marshal(file)
		if err != nil || strings.Contains(string(text), `"engine"`) != (c.engine != "") || !strings.Contains(string(text), c.engine) {
			t.Errorf("as JSON: %s, %v", text, err)
		}
	}
}

// Below the table stands what is wrong with a server, and what mends it.
func TestWriteProcesses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	seeded := true
	rows := []Process{
		{
			Name: "a", Step: "serve", Workspace: "/w", Running: true, Owner: "kept", GRPC: "127.0.0.1:8001", Created: now.Add(-time.Minute),
			Health: &Health{State: Healthy}, Served: owner.Served{Lane: "cpu", Source: "local", Weights: "random:7", LabelsMeanNothing: &seeded},
		},
		{Name: "b", Step: "serve", Owner: "kept", Created: now, Health: &Health{State: Starting, Reason: "it waits"}},
		{
			Name: "d", Step: "serve", Running: true, Paused: true, Owner: "kept", Created: now,
			Health: &Health{State: Silent, Reason: "it is paused", Mend: "docker unpause d"},
		},
		{Name: "c", Owner: "kept", Created: now, Health: &Health{State: Ended, Reason: "it ended", Mend: "dalirun gc", MendNote: "a note"}},
	}
	var b bytes.Buffer
	if err := WriteProcesses(&b, rows, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a     serve  running  kept   127.0.0.1:8001  1m0s  healthy      cpu   local   random:7 (labels mean nothing)  /w\n",
		"b     serve  created  kept ", "d     serve  paused   kept ", "\nd is not healthy: it is paused\n  docker unpause d\n", "c            ended    kept ", "\nc is not healthy: it ended\n  a note:\n  dalirun gc\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &b)
		}
	}
	if err := WriteProcesses(fails{}, rows, now); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}

var errFull = errors.New("the disk is full")

type fails struct{}

func (fails) Write([]byte) (int, error) { return 0, errFull }

// Of a server whose reload did not end nobody knows which weights answer.
func TestServedByAfterAReload(t *testing.T) {
	t.Parallel()
	file := owner.ServerFile{Served: owner.Served{Lane: "cpu", Weights: "random:7"}}
	if got := ServedBy(file); got.Weights != "random:7" || got.Lane != "cpu" {
		t.Errorf("%+v", got)
	}
	for want, reloading := range map[string][]string{
		"random:7, or random:1: a reload has not ended":              {"random:1"},
		"random:7, or random:1, or random:2: a reload has not ended": {"random:1", "random:7", "random:2"},
		"random:7: a reload has not ended":                           {"random:7"}, // with something else that differs
	} {
		file.Reloading = reloading
		if got := ServedBy(file); got.Weights != want {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}
