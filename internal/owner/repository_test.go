package owner_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// A workspace can need two entries: what its link names, and what its server, of an earlier run, serves.
func TestNeedsRepository(t *testing.T) {
	t.Parallel()
	cache, err := store.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	workspace := filepath.Join(t.TempDir(), "w")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	link := owner.RepositoryLink(workspace)
	serves := func(repository string) error {
		return owner.WriteServer(workspace, owner.ServerFile{Container: "1", Run: "r1", Repository: repository})
	}
	first, second := pinned(t, cache, "first", workspace), pinned(t, cache, "second", workspace)
	check := func(when string, want ...string) {
		t.Helper()
		var kept []string
		if err := cache.Unpin(t.Context(), func(p store.Pin) bool {
			for _, path := range []string{first, second} {
				if owner.NeedsRepository(p.Name, p.Holds) && p.Holds(path) {
					kept = append(kept, path)
				}
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(kept)
		slices.Sort(want)
		if !slices.Equal(kept, want) {
			t.Errorf("%s: %q are kept, want %q", when, kept, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("no link and no server")
	must(os.Symlink(first, link))
	check("a link", first)
	must(serves(first))
	check("a server of the same", first)
	must(os.Remove(link))
	must(os.Symlink(second, link))
	check("a server of what was linked before", first, second)
	must(os.WriteFile(owner.ServerPath(workspace), []byte("{"), 0o600))
	check("a server file that is damaged", first, second)
	must(owner.RemoveServer(workspace))
	check("the server is stopped", second)
	must(os.RemoveAll(workspace))
	check("the workspace is gone")
}

// pinned stores an entry that workspace pins, and returns the path of its output.
func pinned(t *testing.T, cache *store.Store, fp pipeline.Fingerprint, workspace string) string {
	t.Helper()
	tx, err := cache.Begin(t.Context(), fp, nil)
	if err == nil {
		err = os.Mkdir(filepath.Join(tx.Dir(), "repository"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := tx.Commit("assemble-repository", nil, []string{"repository"})
	if err != nil {
		t.Fatal(err)
	}
	path := e.Values()["repository"].Path
	if err := errors.Join(cache.Pin(t.Context(), path, workspace, func() error { return nil }), e.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// The link leads to the newest folder, and what a run needs for that is gone.
func TestLinkRepository(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	run, err := owner.Acquire(workspace, "r1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Release() })
	for _, folder := range []string{t.TempDir(), t.TempDir()} {
		if err := owner.LinkRepository(workspace, run, folder); err != nil {
			t.Fatal(err)
		}
		if leads, err := os.Readlink(owner.RepositoryLink(workspace)); err != nil || leads != folder {
			t.Errorf("it leads to %q, not %q: %v", leads, folder, err)
		}
	}
	if _, err := os.Lstat(owner.RepositoryLink(run.Dir())); !os.IsNotExist(err) {
		t.Errorf("the run's folder has one: %v", err)
	}
	if err := os.Mkdir(owner.RepositoryLink(run.Dir()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := owner.LinkRepository(workspace, run, workspace); err == nil {
		t.Error("no error where the link cannot be made")
	}
}
