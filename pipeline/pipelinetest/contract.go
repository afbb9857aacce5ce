package pipelinetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// TestStore checks that the stores which open returns keep the contract of [pipeline.Store]. Each is used by one test.
func TestStore(t *testing.T, open func(t *testing.T) pipeline.Store) { //nolint:tparallel // its caller is parallel
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
		"abandon":                  testAbandon,
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
		"wait in turns":            testWaitInTurns,
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
		"f3": digest("f3", "out/a", "y"), "f4": digest("f4", "out/b", "x"),
		"f5": digest("f5", "out/a/a", "x"), "f6": digest("f6", "out", "x"),
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

func testAbandon(t *testing.T, s *suite) {
	t.Helper()
	tx := s.begin(t, "f1")
	write(t, tx.Dir(), map[string]string{"out": "x"})
	noError(t, tx.Abandon())
	noError(t, tx.Abandon())
	wantContent(t, filepath.Join(tx.Dir(), "out"), "x")
	s.wantError(t, "f1", pipeline.ErrMiss)
	next := s.begin(t, "f1")
	if names, err := os.ReadDir(next.Dir()); err != nil || len(names) > 0 {
		t.Errorf("the next builder's folder is not fresh: %v, %v", names, err)
	}
	noError(t, next.Rollback())
	wantContent(t, filepath.Join(tx.Dir(), "out"), "x")
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
