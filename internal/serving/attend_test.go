package serving

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// quick watches a server that answers at once.
func quick() Watch {
	return Watch{Probe: Probe{Reply: 2 * time.Second, Within: 2 * time.Second}, Every: time.Millisecond, Retry: time.Millisecond, InARow: 2}
}

// idle asks nothing before a test has ended.
func idle() Watch { return Watch{Every: time.Hour, InARow: 1} }

func noWarning(t *testing.T) func(string) {
	t.Helper()
	return func(text string) { t.Errorf("a warning: %s", text) }
}

// A foreground server that does not work any more is reported, and killed if it has nothing to drain.
func TestAttend(t *testing.T) {
	t.Parallel()
	server := owner.ServerFile{Container: "id", Name: "server", Command: []string{"serve", "--accel=cpu"}}
	t.Run("failing", func(t *testing.T) {
		t.Parallel()
		e := &engine{all: []container.Summary{serverIn("/w", broken(t))}}
		err := serversOn(e).Attend(t.Context(), "/w", server, quick(), Supervision{}, noWarning(t))
		wantFault(t, err, pipeline.NotReady, "the server server is not healthy: "+ensemble+": "+deadStub,
			"`dalirun serve --accel=cpu` starts it again")
		if diff := cmp.Diff([]string{"stop id within 0s"}, e.noted()); diff != "" {
			t.Error(diff)
		}
	})
	outOfMemory := map[string]container.Exit{"id": {Code: 137, OOM: true}}
	t.Run("it ended", func(t *testing.T) {
		t.Parallel()
		e := &engine{all: []container.Summary{serverIn("/w", closed(t))}, exit: outOfMemory}
		err := serversOn(e).Attend(t.Context(), "/w", server, idle(), Supervision{}, noWarning(t))
		wantFault(t, err, pipeline.NotReady, "tritonserver was killed for memory", "")
	})
	t.Run("it ended, which the watch sees first", func(t *testing.T) {
		t.Parallel()
		ended, listed := serverIn("/w", closed(t)), make(chan struct{})
		ended.Running = false
		e := &engine{all: []container.Summary{ended}, exit: outOfMemory, ends: listed, onList: func() { close(listed) }}
		err := serversOn(e).Attend(t.Context(), "/w", server, quick(), Supervision{}, noWarning(t))
		wantFault(t, err, pipeline.NotReady, "tritonserver was killed for memory", "")
	})
	t.Run("a signal, watched as usual", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", answering(t))}}
		if err := serversOn(e).Attend(ctx, "/w", server, Watch{}, Supervision{}, noWarning(t)); err != nil || len(e.noted()) > 0 {
			t.Errorf("%v, %q", err, e.noted())
		}
	})
	t.Run("a signal, and it works", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", answering(t))}}
		if err := serversOn(e).Attend(ctx, "/w", server, idle(), Supervision{}, noWarning(t)); err != nil || len(e.noted()) > 0 {
			t.Errorf("%v, %q", err, e.noted())
		}
	})
	t.Run("a signal, and it has nothing to drain", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", broken(t))}}
		err := serversOn(e).Attend(ctx, "/w", server, idle(), Supervision{}, noWarning(t))
		if diff := cmp.Diff([]string{"stop id within 0s"}, e.noted()); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

// A server that cannot be watched any more stays, with a warning.
func TestAttendWithoutWatch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e := &engine{all: []container.Summary{serverIn("/w", "")}}
	var warning string
	err := serversOn(e).Attend(ctx, "/w", owner.ServerFile{Container: "id", Name: "no/name"}, quick(), Supervision{}, func(text string) {
		warning = text
		cancel()
	})
	if !strings.HasPrefix(warning, "whether the server is healthy is not watched any more: ") || len(e.noted()) > 0 {
		t.Errorf("%q, %v, %q", warning, err, e.noted())
	}
}

// How a server ended says what to do; one that `dalirun stop` stopped ended in good order, whatever its exit status.
func TestEnded(t *testing.T) {
	t.Parallel()
	const restart = "`dalirun serve` starts it again"
	for name, tt := range map[string]struct {
		exit        container.Exit
		started     time.Duration // again, after it ended; 0 is never
		removed     time.Duration // after it ended; 0 is never
		gone        bool
		words, hint string
	}{
		"it is removed":       {gone: true, words: "the server s was removed, and not by dalirun", hint: restart},
		"it is stopped":       {words: "the server s was stopped, and not by dalirun", hint: restart},
		"for memory":          {exit: container.Exit{Code: 137, OOM: true}, words: "tritonserver was killed for memory"},
		"with 1":              {exit: container.Exit{Code: 1}, words: "tritonserver exited with status 1", hint: restart + "; if it ended by itself, WORKSPACE/runs/r1/serve.log says why"},
		"it is restarted":     {exit: container.Exit{Code: 137}, started: takenWithin - time.Second/2, words: "the server s was restarted, and not by dalirun", hint: restart},
		"it is being removed": {exit: container.Exit{Code: 137}, removed: takenWithin - time.Second/2, words: "the server s was removed, and not by dalirun", hint: restart},
		"it is started later": {exit: container.Exit{Code: 137}, started: takenWithin + time.Second/2, words: "exited with status 137", hint: restart},
	} {
		for _, stopped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stopped %t", name, stopped), func(t *testing.T) {
				t.Parallel()
				workspace := t.TempDir()
				if err := os.MkdirAll(owner.RunDir(workspace, "r1"), 0o700); err != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) {
					c := serverIn(workspace, "")
					c.Running = false
					e := &engine{all: []container.Summary{c}, exit: map[string]container.Exit{"id": tt.exit}}
					if tt.gone {
						e.drop("id")
					}
					if tt.started > 0 {
						defer time.AfterFunc(tt.started, func() { e.start("id") }).Stop()
					}
					if tt.removed > 0 {
						defer time.AfterFunc(tt.removed, func() { e.drop("id") }).Stop()
					}
					if stopped {
						if err := owner.NoteStop(workspace, "r1"); err != nil {
							t.Fatal(err)
						}
					}
					s := serversOn(e)
					s.Step = "serve"
					err := s.ended(t.Context(), workspace, owner.ServerFile{Container: "id", Name: "s", Run: "r1", Command: []string{"serve"}})
					if stopped {
						if err != nil {
							t.Error(err)
						}
						return
					}
					wantFault(t, err, pipeline.NotReady, tt.words, strings.ReplaceAll(tt.hint, "WORKSPACE", workspace))
				})
			})
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("Ctrl-C"))
	if err := serversOn(&engine{all: []container.Summary{serverIn("/w", "")}}).ended(ctx, "/w", owner.ServerFile{Container: "id"}); err != nil {
		t.Errorf("it was asked to stop: %v", err)
	}
}

// A server whose container cannot be ended is told of, and one that is gone needs no end.
func TestKill(t *testing.T) {
	t.Parallel()
	ill := errors.New("the engine is ill")
	for name, fails := range map[string]error{"gone": container.ErrNotFound, "the engine is ill": ill} {
		e := &engine{onOpen: func(context.Context) error { return fails }}
		if err := serversOn(e).kill(t.Context(), "id"); (err != nil) != (fails == ill) || len(e.noted()) > 0 { //nolint:errorlint // the same one
			t.Errorf("%s: %v, %q", name, err, e.noted())
		}
		err := serversOn(e).ended(t.Context(), t.TempDir(), owner.ServerFile{Container: "id", Name: "s", Run: "r1"})
		if fails == ill && !errors.Is(err, ill) { //nolint:errorlint // the same one
			t.Errorf("how it ended is taken to be known: %v", err)
		}
	}
}

// What starts a server again starts what it serves now: a reload has changed that.
func TestStartsAgainAfterAReload(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	server := owner.ServerFile{Container: "id", Name: "s", Run: "r1", Command: []string{"serve", "--weights=random:1"}}
	reloaded := server
	reloaded.Command = []string{"serve", "--weights=random:2"}
	if err := owner.NoteServer(w, reloaded); err != nil {
		t.Fatal(err)
	}
	err := serversOn(&engine{}).ended(t.Context(), w, server)
	wantFault(t, err, pipeline.NotReady, "the server s was removed, and not by dalirun", "`dalirun serve --weights=random:2` starts it again")
}
