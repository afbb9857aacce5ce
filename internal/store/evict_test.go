package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	gone, err := evictOr(t, s, maxBytes, dryRun)
	must(t, err)
	return names(gone)
}

// evictOr evicts, or with dryRun says what would be.
func evictOr(t *testing.T, s *store.Store, maxBytes int64, dryRun bool) ([]store.Evicted, error) {
	t.Helper()
	if dryRun {
		return s.Evictable(t.Context(), maxBytes, func(store.Pin) bool { return true })
	}
	return s.Evict(t.Context(), maxBytes)
}

func TestEvictLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	s := open(t)
	fill(t, s)
	all, err := s.Evictable(t.Context(), 0, func(store.Pin) bool { return true })
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

// pin pins what a fingerprint has now.
func pin(t *testing.T, s *store.Store, fp pipeline.Fingerprint, name string) {
	t.Helper()
	e := get(t, s, fp)
	for _, v := range e.Values() {
		must(t, s.Pin(t.Context(), v.Path, name, func() error { return nil }))
	}
	closeEntry(t, e)
}

// unpin takes away the pins of a name.
func unpin(t *testing.T, s *store.Store, name string) {
	t.Helper()
	must(t, s.Unpin(t.Context(), func(p store.Pin) bool { return p.Name != name }))
}

func TestEvictPassesOverWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := open(t)
	fill(t, s)
	reader := get(t, s, "a")
	pin(t, s, "b", "/home/me/space ü/.dalirun")
	pin(t, s, "c", "/home/me/space ü/.dalirun")
	pin(t, s, "c", "another")
	if got := evict(t, s, 0, true); got != "d" {
		t.Errorf("%q would be evicted", got)
	}
	if got := evict(t, s, 0, false); got != "d" {
		t.Errorf("%q was evicted", got)
	}
	var names []string
	must(t, s.Unpin(t.Context(), func(p store.Pin) bool {
		names = append(names, p.Name)
		return true
	}))
	want := []string{"/home/me/space ü/.dalirun", "/home/me/space ü/.dalirun", "another"}
	if diff := cmp.Diff(want, sorted(names, strings.Compare)); diff != "" {
		t.Error(diff)
	}
	unpin(t, s, "/home/me/space ü/.dalirun")
	unpin(t, s, "/home/me/space ü/.dalirun")
	closeEntry(t, reader)
	if got := evict(t, s, 0, false); got != "a b" {
		t.Errorf("%q was evicted", got)
	}
	unpin(t, s, "another")
	if got := evict(t, s, 0, false); got != "c" {
		t.Errorf("%q was evicted", got)
	}
	wantEmpty(t, s, "entries", "tmp", "pins", "locks")
}

// A pin keeps the generation that was pinned and no other one: else each one that replaces it would stay, too.
func TestPinKeepsOneGeneration(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := commit(t, s, "f", tree{"a": "1"}, "a")["a"].Path
	pin(t, s, "f", "w")
	second := commit(t, s, "f", tree{"a": "2"}, "a")["a"].Path
	third := commit(t, s, "f", tree{"a": "3"}, "a")["a"].Path
	must(t, s.Sweep(t.Context()))
	for path, want := range map[string]bool{first: true, second: false, third: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := evict(t, s, 0, false); got != "f" {
		t.Errorf("%q was evicted", got)
	}
	if _, err := os.Stat(first); err != nil {
		t.Errorf("what is pinned: %v", err)
	}
}

// A pin is there before what it is for, so that a crash between them leaves one too many, and nobody takes it away meanwhile.
func TestPinBeforeWhatItIsFor(t *testing.T) {
	t.Parallel()
	s := open(t)
	link := filepath.Join(t.TempDir(), "link")
	holds := func(p store.Pin) bool { return p.Holds(link) }
	path := commit(t, s, "f", tree{"a": "1"}, "a")["a"].Path
	must(t, s.Pin(t.Context(), path, "w", func() error {
		if got := evict(t, s, 0, true); got != "" {
			t.Errorf("%q would be evicted before the link is there", got)
		}
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Unpin(short, holds); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for process ") {
			t.Errorf("another one may unpin before the link is there: %v", err)
		}
		return os.Symlink(path, link)
	}))
	must(t, s.Unpin(t.Context(), holds))
	if got := evict(t, s, 0, false); got != "" {
		t.Errorf("%q was evicted although the link points there", got)
	}

	failed := errors.New("the disk is full")
	path = commit(t, s, "g", tree{"a": "1"}, "a")["a"].Path
	if err := s.Pin(t.Context(), path, "w", func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	must(t, s.Unpin(t.Context(), holds))
	if got := evict(t, s, 0, false); got != "g" {
		t.Errorf("%q was evicted", got)
	}
}

func TestPinHolds(t *testing.T) {
	t.Parallel()
	s := open(t)
	dir := t.TempDir()
	other := commit(t, s, "f", tree{"repo/m/1/model": "x"}, "repo")["repo"].Path
	path := commit(t, s, "f", tree{"repo/m/1/model": "x"}, "repo")["repo"].Path
	must(t, os.Symlink(s.Dir(), filepath.Join(dir, "cache")))
	rel, err := filepath.Rel(s.Dir(), path)
	must(t, err)
	links := map[string]string{
		"direct": path, "deep": filepath.Join(path, "m", "1"), "through another": filepath.Join(dir, "cache", rel), "chain": "direct",
		"elsewhere": dir, "the cache": s.Dir(), "other": other, "dangling": filepath.Join(path, "n"), "loop": "loop",
	}
	for name, to := range links {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	pin(t, s, "f", "w")
	want := map[string]bool{"direct": true, "deep": true, "through another": true, "chain": true, "loop": true} // of a loop nobody knows
	must(t, s.Unpin(t.Context(), func(p store.Pin) bool {
		for name := range links {
			if got := p.Holds(filepath.Join(dir, name)); got != want[name] {
				t.Errorf("%s leads there: %t", name, got)
			}
		}
		if p.Holds(filepath.Join(dir, "absent")) || !p.Holds(path) {
			t.Error("it does not tell what is there from what is not")
		}
		return true
	}))
}

func TestDropOfWhatIsPinned(t *testing.T) {
	t.Parallel()
	s := open(t)
	path := commit(t, s, "f", tree{"a": "x", "b": "y"}, "a", "b")["b"].Path
	pin(t, s, "f", "server")
	overwrite(t, filepath.Join(filepath.Dir(path), "a"), "")
	must(t, s.Drop("f"))
	must(t, s.Sweep(t.Context()))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the server's path is no longer valid: %v", err)
	}
	unpin(t, s, "server")
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
	for _, left := range []string{"tmp/f.123/made/deep/half", "tmp/f.124/entry/files/x", "tmp/trash-x/y/z", "tmp/kv-1", "locks/f", "locks/g", "entries/empty/"} {
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
