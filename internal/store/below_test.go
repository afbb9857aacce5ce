package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

// over returns a store over another one.
func over(t *testing.T, below *store.Store) *store.Store {
	t.Helper()
	s, err := store.OpenOver(filepath.Join(t.TempDir(), "over"), below.Dir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A store over another one is a store.
func TestContractOver(t *testing.T) {
	t.Parallel()
	pipelinetest.TestStore(t, func(t *testing.T) pipeline.Store {
		t.Helper()
		return over(t, open(t))
	})
}

// picture is all that can be seen of the files of a store, without what a look at them changes.
func picture(t *testing.T, s *store.Store) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(s.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		var data []byte
		if err == nil && d.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		all = append(all, fmt.Sprintf("%s %s %d %x", path, info.Mode(), info.ModTime().UnixNano(), sha256.Sum256(data)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is below is found, as what it is, and whatever is done above leaves it as it was.
func TestBelowIsOnlyRead(t *testing.T) {
	t.Parallel()
	below := open(t)
	commitTree(t, below, "a", "one")
	cache := filepath.Join(t.TempDir(), "timing")
	if err := os.WriteFile(cache, []byte("timings"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(below.Remember("image", "sha256:1"), below.Keep(t.Context(), "gpu", cache),
		below.Note("/w", "step", pipeline.Facts{"x": "1"})); err != nil {
		t.Fatal(err)
	}
	before := picture(t, below)
	s := over(t, below)
	var all sync.WaitGroup
	for range 8 { // all at once: one copies it, others find that or wait as for a builder
		all.Go(func() {
			e, err := s.Get("a")
			if errors.Is(err, pipeline.ErrMiss) {
				return
			}
			if err == nil {
				err = errors.Join(e.Verify(), e.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	e, err := s.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	path := e.Values()["tree"].Path
	if rel, err := filepath.Rel(s.Dir(), path); err != nil || !filepath.IsLocal(rel) {
		t.Errorf("it is at %s, not in %s", path, s.Dir())
	}
	if err := s.Pin(t.Context(), path, "/w", func() error { return nil }); err != nil {
		t.Error(err)
	}
	if value, ok := s.Recall("image"); !ok || value != "sha256:1" {
		t.Errorf("recalled %q, %t", value, ok)
	}
	if err := errors.Join(e.Close(), s.Remember("image", "sha256:2"), s.Note("/w", "step", pipeline.Facts{"x": "2"})); err != nil {
		t.Error(err)
	}
	if value, _ := s.Recall("image"); value != "sha256:2" {
		t.Errorf("recalled %q", value)
	}
	for i, want := range []bool{true, false} {
		found, err := s.Load(t.Context(), "gpu", filepath.Join(t.TempDir(), strconv.Itoa(i)))
		if found != want || err != nil {
			t.Errorf("timing cache %t, %v", found, err)
		}
		if err := s.Forget(t.Context(), "gpu"); err != nil {
			t.Error(err)
		}
	}
	commitTree(t, s, "b", "two")
	release, err := s.HoldImages(t.Context(), "image:1")
	if err == nil {
		err = errors.Join(release(), s.Unpin(t.Context(), func(store.Pin) bool { return false }), s.Sweep(t.Context()))
	}
	if err != nil {
		t.Error(err)
	}
	if gone, err := s.Evict(t.Context(), 0); err != nil || len(gone) < 2 {
		t.Errorf("evicted %+v, %v", gone, err)
	}
	if diff := cmp.Diff(before, picture(t, below)); diff != "" {
		t.Errorf("below (-before +after):\n%s", diff)
	}
	if _, err := below.Get("b"); !errors.Is(err, pipeline.ErrMiss) {
		t.Errorf("what was made above is below: %v", err)
	}
}

// What is damaged below is no result, whatever its size and time say, and nothing of it is left above.
func TestDamagedBelow(t *testing.T) {
	t.Parallel()
	below := open(t)
	e := commitTree(t, below, "a", "one")
	file := filepath.Join(e, "sub", "file")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("ono"), 0o600), os.Chmod(file, 0o444),
		os.Chtimes(file, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	s := over(t, below)
	if _, err := s.Get("a"); !errors.Is(err, pipeline.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	wantEmpty(t, s, "entries")
	wantEmpty(t, s, "tmp")
	wantEmpty(t, s, "locks")
	if err := s.Drop("a"); err != nil {
		t.Error(err)
	}
	commitTree(t, s, "a", "one")
	got, err := s.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(got.Verify(), got.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenOverNoCache(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		above := filepath.Join(t.TempDir(), "over")
		if _, err := store.OpenOver(above, dir); !errors.Is(err, store.ErrNoCache) {
			t.Errorf("%s: %v", dir, err)
		}
		if _, err := os.Stat(above); err == nil {
			t.Errorf("%s was made all the same", above)
		}
	}
}

// commitTree stores a folder "tree" with a file in a folder, and a program; it returns its path.
func commitTree(t *testing.T, s *store.Store, fp pipeline.Fingerprint, content string) string {
	t.Helper()
	tx, err := s.Begin(t.Context(), fp, nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(tx.Dir(), "tree")
	err = errors.Join(os.MkdirAll(filepath.Join(tree, "sub"), 0o755), os.Mkdir(filepath.Join(tree, "empty"), 0o755),
		os.WriteFile(filepath.Join(tree, "sub", "file"), []byte(content), 0o600),
		os.WriteFile(filepath.Join(tree, "program"), []byte("#!"+content), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	e, err := tx.Commit("step", pipeline.Facts{"content": content}, []string{"tree"})
	if err != nil {
		t.Fatal(err)
	}
	path := e.Values()["tree"].Path
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
