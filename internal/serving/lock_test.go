package serving

import (
	"os"
	"strings"
	"testing"

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
