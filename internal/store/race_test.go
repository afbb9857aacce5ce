package store

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dalirun/dalirun/pipeline"
)

// These tests are about what may happen between two system calls, so they repeat it often.

func openForRace(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commitForRace(t *testing.T, s *Store, fp pipeline.Fingerprint) {
	t.Helper()
	tx, err := s.Begin(t.Context(), fp, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tx.Dir(), "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := tx.Commit("s", nil, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockOfAFileThatGoes: a lock's file is deleted on release, perhaps while another has it open and is about to lock it.
func TestLockOfAFileThatGoes(t *testing.T) {
	t.Parallel()
	s := openForRace(t)
	var holders, acquired atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := 0; i < 3000 || acquired.Load() < 100 && i < 1_000_000; i++ { // a busy machine gives few a turn
				l, err := s.tryBuildLock("f")
				if err != nil {
					t.Error(err)
					return
				}
				if l == nil {
					runtime.Gosched()
					continue
				}
				acquired.Add(1)
				if holders.Add(1) > 1 {
					t.Error("two hold the lock at a time")
				}
				for range 20 {
					runtime.Gosched() // the others try meanwhile
				}
				holders.Add(-1)
				if err := releaseBuildLock(l); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if acquired.Load() < 100 {
		t.Errorf("the lock was had %d times only", acquired.Load())
	}
}

// TestReadersAgainstEviction: what Get returned is there until it is closed.
func TestReadersAgainstEviction(t *testing.T) {
	t.Parallel()
	s := openForRace(t)
	stop := make(chan struct{})
	var reads atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e, err := s.open("f")
				if err != nil {
					if !isMiss(err) {
						t.Error(err)
					}
					continue
				}
				reads.Add(1)
				if err := e.checkTimes(); err != nil {
					t.Errorf("an entry that is read was taken away: %v", err)
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		commitForRace(t, s, "f")
		if _, err := s.Evict(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if reads.Load() == 0 {
		t.Error("nothing was ever read")
	}
}

func isMiss(err error) bool { return err == pipeline.ErrMiss } //nolint:errorlint // exactly that, not damage that wraps it

// TestEvictedOnce: of several who evict at a time, one deletes an entry and says so.
func TestEvictedOnce(t *testing.T) {
	t.Parallel()
	s := openForRace(t)
	for round := range 4 {
		const entries = 5
		for i := range entries {
			commitForRace(t, s, pipeline.Fingerprint(strconv.Itoa(round)+"-"+strconv.Itoa(i)))
		}
		var gone atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				list, err := s.Evict(t.Context(), 0)
				if err != nil {
					t.Error(err)
				}
				gone.Add(int32(len(list)))
			})
		}
		wg.Wait()
		if gone.Load() != entries {
			t.Errorf("of %d entries %d were evicted", entries, gone.Load())
		}
	}
}
