package serving

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// A workspace is served by one process, and not beside a server that it has.
func TestLock(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before      func(t *testing.T, workspace string)
		server      func(t *testing.T, workspace string) []container.Summary
		beside      bool // another process has the lock
		words, hint string
	}{
		"no server": {},
		"one that is gone": {
			before: func(t *testing.T, w string) { t.Helper(); detached(t, w) },
		},
		"one that ended": {
			before: func(t *testing.T, w string) { t.Helper(); detached(t, w) },
			server: func(_ *testing.T, w string) []container.Summary {
				c := serverIn(w, "")
				c.Running = false
				return []container.Summary{c}
			},
		},
		"one that the server file does not name": {
			before: func(t *testing.T, w string) { t.Helper(); detached(t, w) },
			server: func(t *testing.T, w string) []container.Summary {
				t.Helper()
				c := serverIn(w, answering(t))
				c.ID = "another"
				return []container.Summary{c}
			},
		},
		"one that runs": {
			before: func(t *testing.T, w string) { t.Helper(); detached(t, w) },
			server: func(t *testing.T, w string) []container.Summary {
				t.Helper()
				return []container.Summary{serverIn(w, answering(t))}
			},
			words: "W has a server already: server, grpc 127.0.0.1:", hint: "use it, or stop it with `dalirun stop --workspace W`",
		},
		"one that fails": {
			before: func(t *testing.T, w string) { t.Helper(); detached(t, w, "serve", "--detach") },
			server: func(t *testing.T, w string) []container.Summary {
				t.Helper()
				return []container.Summary{serverIn(w, broken(t))}
			},
			words: "; it is not healthy: " + ensemble + ": " + deadStub,
			hint:  "`dalirun stop --workspace W && dalirun serve --detach` mends it",
		},
		"one of another host": {
			before: func(t *testing.T, w string) {
				t.Helper()
				if err := owner.WriteServer(w, owner.ServerFile{Container: "id", Name: "server", Run: "r1", Host: "there"}); err != nil {
					t.Fatal(err)
				}
			},
			words: "W has a server on another host, there: server", hint: "stop it there, or name another --workspace",
		},
		"another process is at work": {
			beside: true,
			words:  "another `dalirun serve` is at work in W", hint: "wait until it serves, end it with Ctrl-C, or name another --workspace",
		},
		"another process starts a server": {
			server: func(_ *testing.T, w string) []container.Summary { return []container.Summary{serverIn(w, "")} },
			beside: true,
			words:  "W has a server already: server, of another `dalirun serve`; it is starting: ",
			hint:   "wait until it serves, end it with Ctrl-C, or name another --workspace",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := t.TempDir()
			if tt.before != nil {
				tt.before(t, w)
			}
			e := &engine{}
			if tt.server != nil {
				e.all = tt.server(t, w)
			}
			s := serversOn(e)
			if tt.beside {
				other, err := serversOn(&engine{}).Lock(t.Context(), w)
				if err != nil {
					t.Fatal(err)
				}
				defer other.Release() //nolint:errcheck // it ends with the test
			}
			if _, served, err := s.Served(t.Context(), w); served != (tt.words != "") || err != nil {
				t.Errorf("it is served: %t, %v", served, err)
			}
			lock, err := s.Lock(t.Context(), w)
			if tt.words != "" {
				wantFault(t, err, pipeline.Environment, strings.ReplaceAll(tt.words, "W", w), strings.ReplaceAll(tt.hint, "W", w))
				if tt.beside {
					return
				}
				if err := owner.RemoveServer(w); err != nil {
					t.Fatal(err)
				}
				if lock, err = s.Lock(t.Context(), w); err != nil {
					t.Fatalf("what was refused has kept the lock: %v", err)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Lock(t.Context(), w); err == nil {
				t.Error("two have the lock")
			}
			for range 2 {
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := serversOn(&engine{}).Lock(t.Context(), t.TempDir()+"/gone"); err == nil {
		t.Error("a workspace that is not there is locked")
	} else {
		wantFault(t, err, pipeline.Environment, "lock the workspace: ", "name another --workspace")
	}
}

// Of a server that is gone neither its container nor the server file is left.
func TestForget(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	e := &engine{}
	if name, found, err := serversOn(e).Forget(t.Context(), w); name != "" || found || err != nil {
		t.Errorf("%q, %t, %v", name, found, err)
	}
	detached(t, w)
	name, found, err := serversOn(e).Forget(t.Context(), w)
	if name != "server" || !found || err != nil {
		t.Errorf("%q, %t, %v", name, found, err)
	}
	if diff := cmp.Diff([]string{"remove id"}, e.noted()); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(owner.ServerPath(w)); !os.IsNotExist(err) {
		t.Errorf("the server file: %v, want none", err)
	}
}

// A process that looks whether a workspace is served is none that serves it.
func TestLockWhileOthersLook(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := serversOn(&engine{}).Served(context.WithoutCancel(ctx), w); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 20 {
		lock, err := serversOn(&engine{}).Lock(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	looking.Wait()
}

// Changes of the served repository are one after another; a reload is alone.
func TestLockRepository(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	first, err := lockRepository(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := lockRepository(ctx, w); !errors.Is(err, stopped) {
		t.Errorf("while it is locked: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := lockRepository(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release() //nolint:errcheck // it ends with the test
	reload, err := LockReload(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer reload.Release() //nolint:errcheck // it ends with the test
	_, err = LockReload(t.Context(), w)
	wantFault(t, err, pipeline.Environment, "another `dalirun reload` is at work in "+w, "wait until it ends")
}

// A wait for a lock that a signal ends has the signal's error: that decides the exit code.
func TestLockIsInterrupted(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := serversOn(&engine{}).Lock(ctx, w); err != stopped { //nolint:errorlint // nothing is said of the lock
		t.Errorf("serve: %v", err)
	}
	if _, err := LockReload(ctx, w); err != stopped { //nolint:errorlint // nothing is said of the lock
		t.Errorf("reload: %v", err)
	}
}

// The server that replaces another one is at its address, and serves what was built last.
func TestStartAgain(t *testing.T) {
	t.Parallel()
	server := owner.ServerFile{
		HTTP: "0.0.0.0:8000", GRPC: "0.0.0.0:8001", Metrics: "[::1]:9002", Repository: "/cache/old",
		Command: []string{"serve", "--workspace=/w", "--weights=random:1", "--host=0.0.0.0", "--shm-size=2g", "--detach", "--grpc-port=8001"},
	}
	for name, c := range map[string]struct {
		built owner.Built
		want  []string
	}{
		"nothing built":  {owner.Built{}, []string{"serve", "--workspace=/w", "--weights=random:1", "--host=0.0.0.0", "--shm-size=2g", "--detach", "--grpc-port=8001", "--http-port=8000", "--metrics-port=9002"}},
		"what it serves": {owner.Built{Repository: "/cache/old", Command: []string{"serve", "--x"}}, []string{"serve", "--workspace=/w", "--weights=random:1", "--host=0.0.0.0", "--shm-size=2g", "--detach", "--grpc-port=8001", "--http-port=8000", "--metrics-port=9002"}},
		"another": {
			owner.Built{Repository: "/cache/new", Command: []string{"serve", "--workspace=/w", "--weights=random:2"}},
			[]string{"serve", "--workspace=/w", "--weights=random:2", "--host=0.0.0.0", "--shm-size=2g", "--detach", "--http-port=8000", "--grpc-port=8001", "--metrics-port=9002"},
		},
	} {
		if diff := cmp.Diff(c.want, StartAgain(server, c.built)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if start := StartAgain(owner.ServerFile{HTTP: "127.0.0.1:8000"}, owner.Built{}); start != nil {
		t.Errorf("not known how: %q", start)
	}
}

// A copy of a workspace's folder has the server file of the workspace that it is a copy of, and no server.
func TestCopiedWorkspace(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	detached(t, w)
	e := &engine{all: []container.Summary{serverIn("/original", "127.0.0.1:1")}}
	if _, served, err := serversOn(e).Served(t.Context(), w); served || err != nil {
		t.Errorf("it is served: %t, %v", served, err)
	}
	lock, err := serversOn(e).Lock(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release() //nolint:errcheck // it ends with the test
	if name, found, err := serversOn(e).Forget(t.Context(), w); found || err != nil {
		t.Errorf("%q, %t, %v", name, found, err)
	}
	if got := e.noted(); len(got) > 0 {
		t.Errorf("the original's server: %q", got)
	}
	if _, err := owner.ReadServer(w); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("the file: %v", err)
	}
}

// What serves a workspace is told of by its server file, once that is there; a workspace that is not there is not taken
// for one that is not served.
func TestServed(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	s := serversOn(&engine{all: []container.Summary{serverIn(w, answering(t))}})
	lock, err := serversOn(&engine{}).Lock(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release() //nolint:errcheck // it ends with the test
	if file, served, err := s.Served(t.Context(), w); file.Run != "" || !served || err != nil {
		t.Errorf("before it is ready: %+v, %t, %v", file, served, err)
	}
	detached(t, w)
	if file, served, err := s.Served(t.Context(), w); file.Run != "r1" || !served || err != nil {
		t.Errorf("%+v, %t, %v", file, served, err)
	}
	if _, served, err := s.Served(t.Context(), w+"/gone"); served || err == nil {
		t.Errorf("no workspace: %t, %v", served, err)
	}
	if _, err := lockRepository(t.Context(), w+"/gone"); err == nil || !strings.HasPrefix(err.Error(), "lock the model repository: ") {
		t.Errorf("no workspace: %v", err)
	}
}
