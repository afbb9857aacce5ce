package pipelinetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// patience bounds every wait for something that happens at once.
const patience = 30 * time.Second

type begun struct {
	tx  pipeline.Tx
	err error
}

// beginBehind lets a second builder begin f1 and returns once it waits for the first.
func (s *suite) beginBehind(ctx context.Context, t *testing.T) chan begun {
	t.Helper()
	holders, done := make(chan string, 100), make(chan begun, 1)
	go func() {
		tx, err := s.Begin(ctx, "f1", func(holder string) { holders <- holder })
		close(holders) // a second call would panic, or be seen below
		done <- begun{tx, err}
	}()
	select {
	case holder := <-holders:
		if holder == "" {
			t.Error("nothing was said of who is waited for")
		}
	case b := <-done:
		t.Fatalf("two builders of one fingerprint are at work: %v", b.err)
	case <-time.After(patience):
		t.Fatal("the second builder neither began nor said that it waits")
	}
	t.Cleanup(func() {
		for holder := range holders {
			t.Errorf("it said again that it waits for %s", holder)
		}
	})
	return done
}

func await(t *testing.T, done <-chan begun) begun {
	t.Helper()
	select {
	case b := <-done:
		return b
	case <-time.After(patience):
		t.Fatal("the second builder still waits")
		return begun{}
	}
}

func testWaitForCommit(t *testing.T, s *suite) {
	t.Helper()
	first := s.begin(t, "f1")
	done := s.beginBehind(t.Context(), t)
	entry, err := first.Commit("a", nil, write(t, first.Dir(), map[string]string{"out": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	noError(t, entry.Close())
	noError(t, first.Rollback())
	second := await(t, done)
	if second.err != nil {
		t.Fatal(second.err)
	}
	wantContent(t, s.get(t).Values()["out"].Path, "x")
	noError(t, second.tx.Rollback())
	noError(t, s.get(t).Verify())
}

func testWaitForRollback(t *testing.T, s *suite) {
	t.Helper()
	first := s.begin(t, "f1")
	done := s.beginBehind(t.Context(), t)
	noError(t, first.Rollback())
	second := await(t, done)
	if second.err != nil {
		t.Fatal(second.err)
	}
	s.wantError(t, "f1", pipeline.ErrMiss)
	noError(t, second.tx.Rollback())
}

func testWaitCancelled(t *testing.T, s *suite) {
	t.Helper()
	first := s.begin(t, "f1")
	ctx, cancel := context.WithCancel(t.Context())
	done := s.beginBehind(ctx, t)
	cancel()
	if b := await(t, done); !errors.Is(b.err, context.Canceled) {
		t.Errorf("got %v, want %v", b.err, context.Canceled)
	}
	noError(t, first.Rollback())
	noError(t, s.begin(t, "f1").Rollback()) // who gave up holds nothing
}

// testWaitInTurns has two builders behind one: each is told once of the wait, though it is for two others in turn.
func testWaitInTurns(t *testing.T, s *suite) {
	t.Helper()
	first := s.begin(t, "f1")
	second, third := s.beginBehind(t.Context(), t), s.beginBehind(t.Context(), t)
	noError(t, first.Rollback())
	var next begun
	select {
	case next = <-second:
		second = third
	case next = <-third:
	case <-time.After(patience):
		t.Fatal("none of the two goes on")
	}
	if next.err != nil {
		t.Fatal(next.err)
	}
	select {
	case b := <-second:
		t.Errorf("two builders of one fingerprint are at work: %v", b.err)
		second <- b
	case <-time.After(200 * time.Millisecond): // what must not happen needs time to
	}
	noError(t, next.tx.Rollback())
	last := await(t, second)
	if last.err != nil {
		t.Fatal(last.err)
	}
	noError(t, last.tx.Rollback())
}

func testNoWaitForAnother(t *testing.T, s *suite) {
	t.Helper()
	s.begin(t, "f1")
	s.begin(t, "f2") // fails if it waits
}

func testManyBuilders(t *testing.T, s *suite) {
	t.Helper()
	const builders = 8
	var mu sync.Mutex
	built := 0
	var all sync.WaitGroup
	for range builders {
		all.Go(func() {
			tx, err := s.Begin(t.Context(), "f1", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { noError(t, tx.Rollback()) }()
			entry, err := s.Get("f1")
			if errors.Is(err, pipeline.ErrMiss) {
				mu.Lock()
				built++
				mu.Unlock()
				entry, err = tx.Commit("a", nil, write(t, tx.Dir(), map[string]string{"out": "x"}))
			}
			if err != nil {
				t.Error(err)
				return
			}
			noError(t, entry.Verify())
			noError(t, entry.Close())
		})
	}
	all.Wait()
	if built != 1 {
		t.Errorf("it was built %d times, want once", built)
	}
}

func (s *suite) wantFacts(t *testing.T, workspace string, id pipeline.ID, want pipeline.Facts) {
	t.Helper()
	got, err := s.Last(workspace, id)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("last facts of %s in %s (-want +got):\n%s", id, workspace, diff)
	}
}

func testFacts(t *testing.T, s *suite) {
	t.Helper()
	s.wantFacts(t, "w", "a", nil)
	noError(t, s.Note("w", "a", pipeline.Facts{"argv": "1", "empty": "", "text": "…\n\"=\x00"}))
	s.wantFacts(t, "w", "a", pipeline.Facts{"argv": "1", "empty": "", "text": "…\n\"=\x00"})
	noError(t, s.Note("w", "a", pipeline.Facts{"argv": "2"}))
	s.wantFacts(t, "w", "a", pipeline.Facts{"argv": "2"})
}

func testFactsCopied(t *testing.T, s *suite) {
	t.Helper()
	facts := pipeline.Facts{"argv": "1"}
	noError(t, s.Note("w", "a", facts))
	facts["argv"] = "2"
	got, err := s.Last("w", "a")
	noError(t, err)
	got["argv"] = "3"
	s.wantFacts(t, "w", "a", pipeline.Facts{"argv": "1"})
}

func testFactsOfWorkspaces(t *testing.T, s *suite) {
	t.Helper()
	noError(t, s.Note("/home/ü/a b", "a", pipeline.Facts{"argv": "1"}))
	noError(t, s.Note("/home/ü/a", "a", pipeline.Facts{"argv": "2"}))
	noError(t, s.Note("/home/ü/a b", "b", pipeline.Facts{"argv": "3"}))
	s.wantFacts(t, "/home/ü/a b", "a", pipeline.Facts{"argv": "1"})
	s.wantFacts(t, "/home/ü/a", "a", pipeline.Facts{"argv": "2"})
	s.wantFacts(t, "/home/ü/a b", "b", pipeline.Facts{"argv": "3"})
	s.wantFacts(t, "/home/ü/a", "b", nil)
}
