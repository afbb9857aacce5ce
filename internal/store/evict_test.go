package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

const kilobytes = 100 // of each entry of fill

// fill makes entries a, b, c and d, last used in this order, hours apart.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	for i, fp := range []pipeline.Fingerprint{"a", "b", "c", "d"} {
		commit(t, s, fp, tree{"model": strings.Repeat("x", kilobytes<<10)}, "model")
		setTime(t, s, fp, 10-i)
	}
}

func names(gone []store.Evicted) string {
	var out []string
	for _, g := range gone {
		out = append(out, string(g.Fingerprint))
	}
	return strings.Join(out, " ")
}

func evict(t *testing.T, s *store.Store, maxBytes int64, dryRun bool) string {
	t.Helper()
	gone, err := s.Evict(t.Context(), maxBytes, dryRun)
	must(t, err)
	return names(gone)
}

func TestEvictLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	s := open(t)
	fill(t, s)
	all, err := s.Evict(t.Context(), 0, true)
	must(t, err)
	var size int64
	for _, e := range all {
		size += e.Bytes
	}
	if size < 4*kilobytes<<10 || size > 5*kilobytes<<10 {
		t.Errorf("the size is %d", size)
	}
	if got := evict(t, s, size, false); got != "" {
		t.Errorf("what fits was evicted: %s", got)
	}
	closeEntry(t, get(t, s, "a")) // now it is the last used
	for _, dry := range []bool{true, true, false} {
		if got := evict(t, s, size/2+1024, dry); got != "b c" {
			t.Errorf("%q was evicted instead of b and c (dry run: %t)", got, dry)
		}
	}
	for _, fp := range []pipeline.Fingerprint{"b", "c"} {
		_, err := s.Get(fp)
		wantErr(t, err, pipeline.ErrMiss)
	}
	if got := evict(t, s, 0, false); got != "d a" {
		t.Errorf("%q was evicted instead of everything", got)
	}
	wantEmpty(t, s, "entries", "tmp")
}

func TestEvictPassesOverWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := open(t)
	fill(t, s)
	reader := get(t, s, "a")
	must(t, s.Pin("b", "/home/me/space ü/.dalirun"))
	must(t, s.Pin("c", "/home/me/space ü/.dalirun"))
	must(t, s.Pin("c", "another"))
	if got := evict(t, s, 0, true); got != "d" {
		t.Errorf("%q would be evicted", got)
	}
	if got := evict(t, s, 0, false); got != "d" {
		t.Errorf("%q was evicted", got)
	}
	pins, err := s.Pins(t.Context())
	must(t, err)
	want := []store.Pin{{"/home/me/space ü/.dalirun", "b"}, {"/home/me/space ü/.dalirun", "c"}, {"another", "c"}}
	less := func(a, b store.Pin) int {
		return strings.Compare(string(a.Fingerprint)+a.Name, string(b.Fingerprint)+b.Name)
	}
	if diff := cmp.Diff(sorted(want, less), sorted(pins, less)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Unpin("/home/me/space ü/.dalirun"))
	must(t, s.Unpin("/home/me/space ü/.dalirun"))
	closeEntry(t, reader)
	if got := evict(t, s, 0, false); got != "b a" { // a was used later
		t.Errorf("%q was evicted", got)
	}
	must(t, s.Unpin("another"))
	if got := evict(t, s, 0, false); got != "c" {
		t.Errorf("%q was evicted", got)
	}
	wantEmpty(t, s, "entries", "tmp", "pins")
}

func TestDropOfWhatIsPinned(t *testing.T) {
	t.Parallel()
	s := open(t)
	path := commit(t, s, "f", tree{"a": "x", "b": "y"}, "a", "b")["b"].Path
	must(t, s.Pin("f", "server"))
	overwrite(t, filepath.Join(filepath.Dir(path), "a"), "")
	must(t, s.Drop("f"))
	must(t, s.Sweep(t.Context()))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the server's path is no longer valid: %v", err)
	}
	must(t, s.Unpin("server"))
	must(t, s.Sweep(t.Context()))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	wantEmpty(t, s, "entries", "tmp", "pins")
}

func TestEvictDamaged(t *testing.T) {
	t.Parallel()
	s := open(t)
	fill(t, s)
	must(t, os.Remove(glob(t, s, "entries/d/*/manifest.json")[0]))
	must(t, os.Truncate(glob(t, s, "entries/c/*/manifest.json")[0], 1))
	setTime(t, s, "c", 1)
	// The one without a manifest has no time: it goes first.
	if got := evict(t, s, 0, false); got != "d a b c" {
		t.Errorf("%q was evicted", got)
	}
	wantEmpty(t, s, "entries", "tmp")
}

func TestSweepLeavesTheLiving(t *testing.T) {
	t.Parallel()
	s := open(t)
	tx := begin(t, s, "f")
	tree{"a": "x"}.write(t, tx.Dir())
	reader := get(t, s, committed(t, s, "g"))
	for range 3 {
		must(t, s.Sweep(t.Context()))
	}
	e, err := tx.Commit("s", nil, []string{"a"})
	must(t, err)
	closeEntry(t, e)
	must(t, reader.Verify())
	closeEntry(t, reader)
}

func committed(t *testing.T, s *store.Store, fp pipeline.Fingerprint) pipeline.Fingerprint {
	t.Helper()
	commit(t, s, fp, tree{"a": "x"}, "a")
	return fp
}

func TestSweepOfLeftovers(t *testing.T) {
	t.Parallel()
	s := open(t)
	committed(t, s, "keep")
	for _, left := range []string{"tmp/f.123/made/deep/half", "tmp/f.124/entry/files/x", "tmp/trash-x/y/z", "tmp/memo-1", "locks/f", "locks/g", "entries/empty/"} {
		tree{left: "x"}.write(t, s.Dir())
	}
	must(t, os.Chmod(filepath.Join(s.Dir(), "tmp/f.123/made/deep"), 0o500))
	must(t, s.Sweep(t.Context()))
	wantEmpty(t, s, "tmp", "locks")
	if got := glob(t, s, "entries/*"); len(got) != 1 {
		t.Errorf("the entries are %v", got)
	}
}

func sorted[T any](list []T, cmp func(a, b T) int) []T {
	out := append([]T(nil), list...)
	slices.SortFunc(out, cmp)
	return out
}
