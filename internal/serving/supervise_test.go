package serving

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

// supervisor notes what it is told.
type supervisor struct {
	mu   sync.Mutex
	told []string
}

func (s *supervisor) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, what)
}

// take returns what the supervisor was told since it was last asked.
func (s *supervisor) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

// supervised attends a server whose container ends with the returned function.
func supervised(
	ctx context.Context, t *testing.T, workspace string, beat time.Duration,
) (s *supervisor, end func(), attended <-chan error) {
	t.Helper()
	if err := os.MkdirAll(owner.RunDir(workspace, "r1"), 0o700); err != nil {
		t.Fatal(err)
	}
	ends, done := make(chan struct{}), make(chan error, 1)
	e := &engine{
		all: []container.Summary{serverIn(workspace, "")}, exit: map[string]container.Exit{"id": {Code: 137}}, ends: ends,
	}
	s = &supervisor{}
	supervision := Supervision{
		Enter: func(p Phase) { s.note(string(p)) },
		Alive: func() { s.note("alive") },
		Beat:  beat,
	}
	server := owner.ServerFile{Container: "id", Name: "s", Run: "r1"}
	go func() { done <- serversOn(e).Attend(ctx, workspace, server, idle(), supervision, noWarning(t)) }()
	return s, func() { close(ends) }, done
}

// A supervisor is told of a reload as long as the reload's process lives, and of a stop before the server has ended.
func TestPhases(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, end, attended := supervised(t.Context(), t, workspace, 0)
		step := func(want ...string) {
			t.Helper()
			time.Sleep(lookEvery) // of the bubble
			synctest.Wait()
			if diff := cmp.Diff(want, s.take()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		step("serving")
		if _, err := os.Stat(reloadLockPath(workspace)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("to look for a reload made its lock: %v", err)
		}
		lock, err := LockReload(t.Context(), workspace)
		if err != nil {
			t.Fatal(err)
		}
		step("reloading")
		step()
		if err := lock.Release(); err != nil { // as the kernel does for a process that was killed
			t.Fatal(err)
		}
		step("serving")
		if err := owner.NoteStop(workspace, "r1"); err != nil {
			t.Fatal(err)
		}
		step("stopping")
		end()
		if err := <-attended; err != nil {
			t.Error(err)
		}
	})
}

// The loop that attends a server says that it does, until the server is to stop.
func TestAlive(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, signal := context.WithCancel(t.Context())
		s, end, attended := supervised(ctx, t, workspace, 30*time.Second)
		defer end()
		time.Sleep(95 * time.Second) // of the bubble
		signal()
		if err := <-attended; err != nil {
			t.Log(err) // nothing answers at the server's port
		}
		if diff := cmp.Diff([]string{"serving", "alive", "alive", "alive", "stopping"}, s.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A server that ends by itself is told of as one that stops.
func TestEndIsTold(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, end, attended := supervised(t.Context(), t, workspace, 0)
		synctest.Wait()
		end()
		if err := <-attended; err == nil {
			t.Error("no error")
		}
		if diff := cmp.Diff([]string{"serving", "stopping"}, s.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A reload and a look for it are not in each other's way.
func TestLookingAtAReload(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	for range 20 {
		looked := make(chan struct{})
		go func() {
			defer close(looked)
			for range 50 {
				reloads(workspace)
			}
		}()
		lock, err := LockReload(t.Context(), workspace)
		if err != nil {
			t.Fatal(err)
		}
		if !reloads(workspace) {
			t.Error("a reload is not seen")
		}
		<-looked
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
