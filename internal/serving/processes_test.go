package serving

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// Each container is a row; the servers of this host have their health and what they serve.
func TestProcesses(t *testing.T) {
	t.Parallel()
	w, beside := t.TempDir(), t.TempDir()
	seeded := true
	file := owner.ServerFile{Container: "id", Run: "r1", Lane: "cpu", Weights: "random:7", LabelsMeanNothing: &seeded}
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
		"of another kind": {ill, ill, pipeline.Faultf(pipeline.Usage, "h", "no picture"), "no picture", "h"},
	} {
		s := serversOn(&engine{all: []container.Summary{serverIn(w, c.server)}})
		got := s.WithHealth(t.Context(), c.asked, c.err)
		if !strings.HasPrefix(got.Error(), c.words) || !strings.Contains(hintOf(got), c.hint) {
			t.Errorf("%s: %v (hint: %s)", name, got, hintOf(got))
		}
	}
}
