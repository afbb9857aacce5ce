package serving

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// A server that works is drained, and one that has nothing to drain is ended at once; both go with the server file.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		server func(t *testing.T, workspace string) []container.Summary
		events []string
		done   []string
	}{
		"none": {server: func(*testing.T, string) []container.Summary { return nil }},
		"healthy": {
			func(t *testing.T, w string) []container.Summary {
				t.Helper()
				return []container.Summary{serverIn(w, answering(t))}
			},
			[]string{"stopped server"},
			[]string{"stop id within 35s", "remove id"},
		},
		"failing": {
			func(t *testing.T, w string) []container.Summary {
				t.Helper()
				return []container.Summary{serverIn(w, broken(t))}
			},
			[]string{"server is not healthy: " + ensemble + ": " + deadStub, "stopped server"},
			[]string{"stop id within 0s", "remove id"},
		},
		"paused": { // it can be asked nothing before it goes on
			func(_ *testing.T, w string) []container.Summary {
				c := serverIn(w, "127.0.0.1:1")
				c.Paused = true
				return []container.Summary{c}
			},
			[]string{"server goes on", "stopped server"},
			[]string{"stop id within 35s", "remove id"},
		},
		"ended": {
			func(_ *testing.T, w string) []container.Summary {
				c := serverIn(w, "")
				c.Running = false
				return []container.Summary{c}
			},
			[]string{"stopped server"},
			[]string{"stop id within 0s", "remove id"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := t.TempDir()
			detached(t, w)
			e := &engine{all: tt.server(t, w), exit: map[string]container.Exit{"id": {}}}
			e.onStop = func() {
				if !owner.StopNoted(w, "r1") {
					t.Error("a serve that attends it would take the stop for a failure: it is not noted before")
				}
			}
			want := len(e.all)
			var events []string
			stopped, err := serversOn(e).Stop(t.Context(), w, StopObserver{
				Dead:    func(name string, h Health) { events = append(events, name+" is "+h.String()) },
				Resumed: func(name string) { events = append(events, name+" goes on") },
				Stopped: func(name string) { events = append(events, "stopped "+name) },
			})
			if err != nil || stopped != want {
				t.Errorf("%d are stopped, %v", stopped, err)
			}
			if diff := cmp.Diff(tt.events, events); diff != "" {
				t.Errorf("calls of the observer (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.done, e.noted()); diff != "" {
				t.Errorf("what is done (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(owner.ServerPath(w)); !os.IsNotExist(err) {
				t.Errorf("the server file: %v, want none", err)
			}
		})
	}
}

// What is another host's is left alone.
func TestStopOfAnotherHost(t *testing.T) {
	t.Parallel()
	byFile, byLabel := t.TempDir(), t.TempDir()
	if err := owner.WriteServer(byFile, owner.ServerFile{Container: "id", Name: "server", Run: "r1", Host: "there"}); err != nil {
		t.Fatal(err)
	}
	for workspace, words := range map[string]string{
		byFile:  "the server of W, server, was started on another host, there: nothing is stopped",
		byLabel: "server serves a workspace of this path, W, for another host, there: nothing is stopped",
	} {
		e := &engine{all: []container.Summary{serverIn(byLabel, "127.0.0.1:1", container.LabelHost, "there")}}
		_, err := serversOn(e).Stop(t.Context(), workspace, StopObserver{})
		wantFault(t, err, pipeline.Environment, strings.ReplaceAll(words, "W", workspace), "run `dalirun stop --workspace "+workspace+"` there")
		if done := e.noted(); len(done) > 0 {
			t.Errorf("%q", done)
		}
	}
}

// A stop that is cut off while the server drains leaves it the workspace's server.
func TestStopCutOff(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	detached(t, w)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("Ctrl-C")
	e := &engine{all: []container.Summary{serverIn(w, answering(t))}, onStop: func() { cancel(why) }}
	stopped, err := serversOn(e).Stop(ctx, w, StopObserver{Stopped: func(name string) { t.Errorf("%s is stopped", name) }})
	if stopped != 0 || !errors.Is(err, why) || !strings.HasPrefix(err.Error(), "stop server: ") {
		t.Errorf("%d, %v", stopped, err)
	}
	if diff := cmp.Diff([]string{"stop id within 35s"}, e.noted()); diff != "" {
		t.Error(diff)
	}
	if _, err := owner.ReadServer(w); err != nil {
		t.Error(err)
	}
}

// A stop is over when the serve whose server it took away has ended.
func TestStopOfAServeInTheForeground(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const ends = 3 * time.Second
		ended := serverIn(w, "")
		ended.Running = false
		s := serversOn(&engine{all: []container.Summary{ended}})
		lock, err := serversOn(&engine{}).Lock(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		stopped, err := s.Stop(t.Context(), w, StopObserver{Stopped: func(string) {
			time.AfterFunc(ends, func() {
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			})
		}})
		if took := time.Since(began); stopped != 1 || err != nil || took < ends || took > ends+time.Second {
			t.Errorf("%d, %v, after %s", stopped, err, took)
		}
	})
}

// awaitServe waits for the serve whose server it took away, so that the next serve finds the workspace free, but not for ever.
func TestAwaitServe(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	if err := awaitServe(t.Context(), workspace); err != nil {
		t.Errorf("where none ever was: %v", err)
	}
	if _, err := os.Stat(LockPath(workspace)); !os.IsNotExist(err) {
		t.Errorf("the lock: %v, want none", err)
	}
	synctest.Test(t, func(t *testing.T) {
		serve := flock.New(LockPath(workspace))
		if err := serve.Lock(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- awaitServe(ctx, workspace) }()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(serveEndsWithin - time.Second):
		}
		if err := serve.Unlock(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("after it ended: %v", err)
		}
		if err := serve.Lock(); err != nil {
			t.Fatalf("the lock is still held: %v", err)
		}
		defer serve.Unlock() //nolint:errcheck // it ends with the test
		began := time.Now()
		wantFault(t, awaitServe(ctx, workspace), pipeline.Environment,
			"the server is stopped, and a `dalirun serve` of "+workspace+" has not ended after 10s", "end it with Ctrl-C")
		if took := time.Since(began); took != serveEndsWithin {
			t.Errorf("it waited %s", took)
		}
		want := errors.New("Ctrl-C")
		cancel(want)
		if err := awaitServe(ctx, workspace); !errors.Is(err, want) {
			t.Errorf("%v; want %v", err, want)
		}
	})
}

// A server that is removed while it is stopped is stopped; one that cannot be looked at is not, and stays the
// workspace's.
func TestStopOfWhatIsRemoved(t *testing.T) {
	t.Parallel()
	ill := errors.New("the engine is ill")
	for name, tt := range map[string]struct {
		fails   error
		stopped int
		err     error
		file    error
	}{
		"removed":                 {container.ErrNotFound, 1, nil, owner.ErrNoServer},
		"nobody knows what it is": {ill, 0, ill, nil},
	} {
		w := t.TempDir()
		detached(t, w)
		e := &engine{all: []container.Summary{serverIn(w, "")}, onOpen: func(context.Context) error { return tt.fails }}
		stopped, err := serversOn(e).Stop(t.Context(), w, StopObserver{Stopped: func(string) {}})
		if stopped != tt.stopped || !errors.Is(err, tt.err) || len(e.noted()) > 0 {
			t.Errorf("%s: %d are stopped, %v, %q", name, stopped, err, e.noted())
		}
		if _, err := owner.ReadServer(w); !errors.Is(err, tt.file) {
			t.Errorf("%s: the server file: %v, want %v", name, err, tt.file)
		}
	}
}
