package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// open returns a store in a path with a space and letters beyond ASCII.
func open(tb testing.TB) *store.Store {
	tb.Helper()
	s, err := store.Open(filepath.Join(tb.TempDir(), "Zwischenspeicher für Übung 模型"))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// tree is what a test writes: contents by path. A path that ends in a slash is an empty folder.
type tree map[string]string

func (t tree) write(tb testing.TB, dir string) {
	tb.Helper()
	for path, content := range t {
		full := filepath.Join(dir, path)
		folder, err := filepath.Dir(full), error(nil)
		if strings.HasSuffix(path, "/") {
			folder = full
		}
		err = os.MkdirAll(folder, 0o700)
		if err == nil && folder != full {
			err = os.WriteFile(full, []byte(content), 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func begin(tb testing.TB, s *store.Store, fp pipeline.Fingerprint) pipeline.Tx {
	tb.Helper()
	tx, err := s.Begin(tb.Context(), fp, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return tx
}

// commit stores t under fp, and leaves the entry closed.
func commit(tb testing.TB, s *store.Store, fp pipeline.Fingerprint, t tree, outputs ...string) pipeline.Values {
	tb.Helper()
	tx := begin(tb, s, fp)
	t.write(tb, tx.Dir())
	e, err := tx.Commit("build-engine", pipeline.Facts{"argv": "trtexec"}, outputs)
	if err != nil {
		tb.Fatal(err)
	}
	defer closeEntry(tb, e)
	return e.Values()
}

func get(tb testing.TB, s *store.Store, fp pipeline.Fingerprint) pipeline.Entry {
	tb.Helper()
	e, err := s.Get(fp)
	if err != nil {
		tb.Fatalf("get: %v", err)
	}
	return e
}

func closeEntry(tb testing.TB, e pipeline.Entry) {
	tb.Helper()
	if err := e.Close(); err != nil {
		tb.Error(err)
	}
}

func wantErr(tb testing.TB, err, want error, words ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("the error is %v instead of %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// wantEmpty sees that nothing is left in the folders of a store that hold only what is under way.
func wantEmpty(tb testing.TB, s *store.Store, folders ...string) {
	tb.Helper()
	for _, f := range folders {
		list, err := os.ReadDir(filepath.Join(s.Dir(), f))
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range list {
			tb.Errorf("%s/%s was left", f, e.Name())
		}
	}
}

var repository = tree{
	"repo/dali/1/model.dali":       "dali",
	"repo/dali/config.pbtxt":       "name: \"dali\"",
	"repo/ensemble/1/":             "",
	"repo/resnet50_trt/1/plan":     "engine",
	"repo/weird 名/a-b":             "dash sorts before slash",
	"repo/weird 名/a/b":             "and slash after",
	"labels.txt":                   "espresso\n",
	"scratch/not stored/leftovers": "x",
}

func glob(tb testing.TB, s *store.Store, pattern string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Dir(), pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("nothing is at %s: %v", pattern, err)
	}
	return paths
}

// setTime puts a time of use of some hours ago on an entry.
func setTime(tb testing.TB, s *store.Store, fp pipeline.Fingerprint, hours int) {
	tb.Helper()
	when := time.Now().Add(-time.Duration(hours) * time.Hour)
	for _, path := range glob(tb, s, "entries/"+string(fp)+"/*/manifest.json") {
		if err := os.Chtimes(path, when, when); err != nil {
			tb.Fatal(err)
		}
	}
}
