package pipelinetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// patience bounds every wait for something that happens at once.
const patience = 30 * time.Second

// TestStore checks that the stores which open returns keep the contract of [pipeline.Store]. Each is used by one test.
func TestStore(t *testing.T, open func(t *testing.T) pipeline.Store) { //nolint:tparallel // whoever calls it is parallel
	t.Helper()
	tests := map[string]func(t *testing.T, s *suite){
		"miss":                     testMiss,
		"commit":                   testCommit,
		"folder":                   testFolder,
		"digests":                  testDigests,
		"named outputs alone":      testNamedOutputs,
		"missing output":           testMissingOutput,
		"rollback":                 testRollback,
		"rollback after commit":    testRollbackAfterCommit,
		"commit after the end":     testCommitAfterEnd,
		"replace":                  testReplace,
		"truncated":                testTruncated,
		"removed":                  testRemoved,
		"rotten":                   testRotten,
		"drop a miss":              testDropMiss,
		"drop what is whole":       testDropWhole,
		"drop while read":          testDropWhileRead,
		"wait for a commit":        testWaitForCommit,
		"wait for a rollback":      testWaitForRollback,
		"wait until cancelled":     testWaitCancelled,
		"no wait for another":      testNoWaitForAnother,
		"many builders":            testManyBuilders,
		"facts":                    testFacts,
		"facts are not shared":     testFactsCopied,
		"facts of many workspaces": testFactsOfWorkspaces,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { testOne(t, &suite{open(t)}, test) })
	}
}

func testOne(t *testing.T, s *suite, test func(*testing.T, *suite)) {
	t.Helper()
	t.Parallel()
	test(t, s)
}

type suite struct{ pipeline.Store }

func (s *suite) begin(t *testing.T, fp pipeline.Fingerprint) pipeline.Tx {
	t.Helper()
	tx, err := s.Begin(t.Context(), fp, func(holder string) { t.Errorf("Begin waits for %q", holder) })
	if err != nil {
		t.Fatalf("begin %s: %v", fp, err)
	}
	t.Cleanup(func() { noError(t, tx.Rollback()) })
	return tx
}

// commit stores files, which are contents by path, as the output of the first part of each path.
func (s *suite) commit(t *testing.T, fp pipeline.Fingerprint, files map[string]string) pipeline.Values {
	t.Helper()
	tx := s.begin(t, fp)
	entry, err := tx.Commit("build-engine", pipeline.Facts{"argv": "trtexec"}, write(t, tx.Dir(), files))
	if err != nil {
		t.Fatalf("commit %s: %v", fp, err)
	}
	values := entry.Values()
	noError(t, entry.Close())
	return values
}

func write(t *testing.T, dir string, files map[string]string) (outputs []string) {
	t.Helper()
	for path, content := range files {
		full := filepath.Join(dir, path)
		noError(t, errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(content), 0o600)))
		name, _, _ := strings.Cut(path, "/")
		outputs = append(outputs, name)
	}
	return outputs
}

// get returns the entry of f1.
func (s *suite) get(t *testing.T) pipeline.Entry {
	t.Helper()
	entry, err := s.Get("f1")
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	t.Cleanup(func() { noError(t, entry.Close()) })
	return entry
}

func (s *suite) wantError(t *testing.T, fp pipeline.Fingerprint, want error) {
	t.Helper()
	entry, err := s.Get(fp)
	if err == nil {
		noError(t, entry.Close())
	}
	if !errors.Is(err, want) {
		t.Errorf("get %s: got %v, want %v", fp, err, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		t.Errorf("%s: got %q, %v, want %q", path, data, err, want)
	}
}

func testMiss(t *testing.T, s *suite) {
	t.Helper()
	s.wantError(t, "f1", pipeline.ErrMiss)
}

func testCommit(t *testing.T, s *suite) {
	t.Helper()
	committed := s.commit(t, "f1", map[string]string{"model.onnx": "weights", "labels.txt": "espresso"})
	entry := s.get(t)
	if diff := cmp.Diff(committed, entry.Values()); diff != "" {
		t.Errorf("Get differs from Commit (-commit +get):\n%s", diff)
	}
	if len(committed) != 2 {
		t.Errorf("got %d outputs, want 2", len(committed))
	}
	for name, v := range committed {
		if !filepath.IsAbs(v.Path) || v.Digest == "" || v.Ref != "" {
			t.Errorf("%s: want an absolute path, a digest and no reference, got %+v", name, v)
		}
	}
	wantContent(t, committed["model.onnx"].Path, "weights")
	wantContent(t, committed["labels.txt"].Path, "espresso")
	noError(t, entry.Verify())
	s.wantError(t, "f2", pipeline.ErrMiss)
}

func testFolder(t *testing.T, s *suite) {
	t.Helper()
	values := s.commit(t, "f1", map[string]string{"repository/dali/1/model.dali": "dali"})
	wantContent(t, filepath.Join(values["repository"].Path, "dali", "1", "model.dali"), "dali")
	noError(t, s.get(t).Verify())
}

func testDigests(t *testing.T, s *suite) {
	t.Helper()
	digest := func(fp pipeline.Fingerprint, path, content string) string {
		return s.commit(t, fp, map[string]string{path: content})["out"].Digest
	}
	same := digest("f1", "out/a", "x")
	if again := digest("f2", "out/a", "x"); again != same {
		t.Errorf("one content has two digests: %s and %s", same, again)
	}
	for fp, other := range map[pipeline.Fingerprint]string{
		"f3": digest("f3", "out/a", "y"), "f4": digest("f4", "out/b", "x"), "f5": digest("f5", "out/a/a", "x"), "f6": digest("f6", "out", "x"),
	} {
		if other == same {
			t.Errorf("%s: another content has the same digest", fp)
		}
	}
}

func testNamedOutputs(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	write(t, tx.Dir(), map[string]string{"out": "x", "scratch": "y"})
	entry, err := tx.Commit("a", nil, []string{"out"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { noError(t, entry.Close()) }()
	if _, ok := entry.Values()["scratch"]; ok || len(entry.Values()) != 1 {
		t.Errorf("got %v, want out alone", entry.Values())
	}
	noError(t, entry.Verify())
}

func testMissingOutput(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	write(t, tx.Dir(), map[string]string{"out": "x"})
	_, err := tx.Commit("a", nil, []string{"out", "model.plan"})
	if err == nil || !strings.Contains(err.Error(), "model.plan") {
		t.Errorf("got %v, want an error that names model.plan", err)
	}
	noError(t, tx.Rollback())
	wantGone(t, tx.Dir())
	s.wantError(t, "f1", pipeline.ErrMiss)
	s.commit(t, "f1", map[string]string{"out": "x"})
}

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func testRollback(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	write(t, tx.Dir(), map[string]string{"out": "x"})
	noError(t, tx.Rollback())
	noError(t, tx.Rollback())
	wantGone(t, tx.Dir())
	s.wantError(t, "f1", pipeline.ErrMiss)
	names, err := os.ReadDir(s.begin(t, "f1").Dir())
	if err != nil || len(names) > 0 {
		t.Errorf("the next builder's folder is not fresh: %v, %v", names, err)
	}
}

func testRollbackAfterCommit(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	entry, err := tx.Commit("a", nil, write(t, tx.Dir(), map[string]string{"out": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	noError(t, tx.Rollback())
	wantContent(t, entry.Values()["out"].Path, "x")
	noError(t, entry.Close())
	noError(t, s.get(t).Verify())
}

func testCommitAfterEnd(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	outputs := write(t, tx.Dir(), map[string]string{"out": "x"})
	noError(t, tx.Rollback())
	if _, err := tx.Commit("a", nil, outputs); err == nil {
		t.Error("what was rolled back was committed")
	}
	s.wantError(t, "f1", pipeline.ErrMiss)
}

// testReplace is what a forced build does: its result counts, and who reads the old one is not disturbed.
func testReplace(t *testing.T, s *suite) {
	t.Helper()
	s.commit(t, "f1", map[string]string{"out": "old"})
	reader := s.get(t)
	s.commit(t, "f1", map[string]string{"out": "new"})
	wantContent(t, reader.Values()["out"].Path, "old")
	entry := s.get(t)
	wantContent(t, entry.Values()["out"].Path, "new")
	noError(t, entry.Verify())
}

func testTruncated(t *testing.T, s *suite) {
	t.Helper()
	values := s.commit(t, "f1", map[string]string{"repository/model": "weights"})
	Truncate(t, filepath.Join(values["repository"].Path, "model"))
	s.wantError(t, "f1", pipeline.ErrDamaged)
	s.rebuild(t)
}

func testRemoved(t *testing.T, s *suite) {
	t.Helper()
	values := s.commit(t, "f1", map[string]string{"out": "x", "model": "weights"})
	noError(t, os.Remove(values["model"].Path))
	s.wantError(t, "f1", pipeline.ErrDamaged)
	s.rebuild(t)
}

func testRotten(t *testing.T, s *suite) {
	t.Helper()
	values := s.commit(t, "f1", map[string]string{"repository/model": "weights"})
	Rot(t, filepath.Join(values["repository"].Path, "model"))
	if err := s.get(t).Verify(); !errors.Is(err, pipeline.ErrDamaged) {
		t.Errorf("verify: got %v, want %v", err, pipeline.ErrDamaged)
	}
	s.rebuild(t)
}

// rebuild drops f1, which is damaged, and makes it again.
func (s *suite) rebuild(t *testing.T) {
	t.Helper()
	noError(t, s.Drop("f1"))
	s.wantError(t, "f1", pipeline.ErrMiss)
	values := s.commit(t, "f1", map[string]string{"out": "again"})
	noError(t, s.get(t).Verify())
	wantContent(t, values["out"].Path, "again")
}

func testDropMiss(t *testing.T, s *suite) {
	t.Helper()
	noError(t, s.Drop("f1"))
}

func testDropWhole(t *testing.T, s *suite) {
	t.Helper()
	s.commit(t, "f1", map[string]string{"out": "x"})
	noError(t, s.Drop("f1"))
	noError(t, s.get(t).Verify())
}

func testDropWhileRead(t *testing.T, s *suite) {
	t.Helper()
	values := s.commit(t, "f1", map[string]string{"model": "weights", "labels.txt": "espresso"})
	reader := s.get(t)
	Rot(t, values["model"].Path)
	noError(t, s.Drop("f1"))
	s.wantError(t, "f1", pipeline.ErrMiss)
	wantContent(t, reader.Values()["labels.txt"].Path, "espresso")
}

type begun struct {
	tx  pipeline.Tx
	err error
}

// beginBehind lets a second builder begin f1 and returns once it waits for the first.
func (s *suite) beginBehind(ctx context.Context, t *testing.T) <-chan begun {
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
