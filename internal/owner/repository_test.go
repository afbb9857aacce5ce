package owner_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// A workspace needs what was built last in it, and nothing that its server serves: these files are its own.
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
	builds := func(repository string) error {
		return owner.WriteBuilt(workspace, owner.Built{Run: "r1", Repository: repository})
	}
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
	check("nothing was built")
	must(builds(first))
	check("one was built", first)
	must(serves(first))
	must(builds(second))
	check("a server of what was built before", second)
	must(os.WriteFile(filepath.Join(workspace, "built.json"), []byte("{"), 0o600))
	check("a record that is damaged", first, second)
	must(builds(first))
	check("a new record", first)
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

// writeTree writes files, slash path → content, and returns the folder.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readTree returns the files of a folder, slash path → content.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		files[filepath.ToSlash(rel)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The served repository is a folder of its own with the files of the cache, and stays the same folder.
func TestTakeRepository(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	first := map[string]string{"dali/1/model.dali": "d1", "dali/config.pbtxt": "c", "resnet50_trt/1/model.plan": "p", "ensemble/config.pbtxt": "e"}
	second := map[string]string{"dali/1/model.dali": "d2", "dali/config.pbtxt": "c", "resnet50_onnx/1/model.onnx": "o", "ensemble/config.pbtxt": "e2"}
	served := owner.RepositoryPath(workspace)
	if err := os.Symlink(t.TempDir(), served); err != nil { // as older versions left it
		t.Fatal(err)
	}
	var folder os.FileInfo
	for _, files := range []map[string]string{first, second, second, first} {
		from := writeTree(t, files)
		if err := owner.TakeRepository(t.Context(), workspace, from); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(files, readTree(t, served)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		source, err := os.Stat(filepath.Join(from, "dali", "1", "model.dali"))
		if err != nil {
			t.Fatal(err)
		}
		if taken, err := os.Stat(filepath.Join(served, "dali", "1", "model.dali")); err != nil || !os.SameFile(source, taken) {
			t.Errorf("it is no hard link: %v", err)
		}
		now, err := os.Stat(served)
		if err != nil || folder != nil && !os.SameFile(folder, now) {
			t.Errorf("the folder is another one: %v", err)
		}
		folder = now
		if err := os.RemoveAll(from); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(files, readTree(t, served)); diff != "" {
			t.Errorf("after the cache's were removed (-want +got):\n%s", diff)
		}
	}
	// What a killed process left is mended.
	if err := os.WriteFile(filepath.Join(served, "dali", "1", "model.dali.new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := owner.TakeRepository(t.Context(), workspace, writeTree(t, second)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second, readTree(t, served)); diff != "" {
		t.Errorf("after a killed process (-want +got):\n%s", diff)
	}
	if err := owner.TakeRepository(t.Context(), workspace, filepath.Join(workspace, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a repository that is not there: %v", err)
	}
}

// What has come in the way of the served repository goes, and nothing that a link leads to.
func TestTakeRepositoryFollowsNoLink(t *testing.T) {
	t.Parallel()
	files := map[string]string{"dali/1/model.dali": "d", "dali/config.pbtxt": "c"}
	from := writeTree(t, files)
	for name, change := range map[string]func(served, other string) error{
		"a link for a model":   func(served, other string) error { return os.Symlink(other, filepath.Join(served, "dali")) },
		"a link for a version": func(served, other string) error { return os.Symlink(other, filepath.Join(served, "dali", "1")) },
		"a link for a file": func(served, other string) error {
			return os.Symlink(filepath.Join(other, "mine"), filepath.Join(served, "dali", "config.pbtxt"))
		},
		"a file for a folder": func(served, _ string) error { return os.WriteFile(filepath.Join(served, "dali"), nil, 0o600) },
		"a folder for a file": func(served, _ string) error {
			return os.MkdirAll(filepath.Join(served, "dali", "config.pbtxt", "x"), 0o700)
		},
		"a link beside": func(served, other string) error { return os.Symlink(other, filepath.Join(served, "other")) },
	} {
		workspace, other := t.TempDir(), writeTree(t, map[string]string{"mine": "mine"})
		served := owner.RepositoryPath(workspace)
		if err := owner.TakeRepository(t.Context(), workspace, from); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{"dali/config.pbtxt", "dali/1", "dali"} { // as much as is in the way
			if change(served, other) == nil {
				break
			}
			if err := os.RemoveAll(filepath.Join(served, filepath.FromSlash(gone))); err != nil {
				t.Fatal(err)
			}
		}
		if err := owner.TakeRepository(t.Context(), workspace, from); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(files, readTree(t, served)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(map[string]string{"mine": "mine"}, readTree(t, other)); diff != "" {
			t.Errorf("%s: the user's (-want +got):\n%s", name, diff)
		}
	}
}

// Between two file systems the files are copies, which are made once.
func TestTakeRepositoryCopies(t *testing.T) {
	t.Parallel()
	other, err := os.MkdirTemp("/dev/shm", "dalirun-test-") //nolint:usetesting // of another file system
	if err != nil {
		needtest.Missing(t, "a second file system at /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	files := map[string]string{"dali/1/model.dali": "d1", "dali/config.pbtxt": "c"}
	from := writeTree(t, files)
	probe := filepath.Join(other, "probe")
	if err := os.Link(filepath.Join(from, "dali", "config.pbtxt"), probe); err == nil {
		needtest.Missing(t, "/dev/shm is on the file system of temporary folders")
	}
	copied := filepath.Join(owner.RepositoryPath(other), "dali", "1", "model.dali")
	var before os.FileInfo
	for range 2 {
		if err := owner.TakeRepository(t.Context(), other, from); err != nil {
			t.Fatal(err)
		}
		now, err := os.Stat(copied)
		if err != nil || before != nil && !os.SameFile(before, now) {
			t.Errorf("it was copied again: %v", err)
		}
		before = now
	}
	if diff := cmp.Diff(files, readTree(t, owner.RepositoryPath(other))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What was built is read as it was written; a record that says nothing is a fault with the command that mends it.
func TestBuilt(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	if _, err := owner.ReadBuilt(w); !errors.Is(err, owner.ErrNothingBuilt) {
		t.Errorf("before there was one: %v", err)
	}
	want := owner.Built{Run: "r1", Repository: "/c/a", Target: json.RawMessage(`"t"`), Memory: 1, Command: []string{"serve"}}
	if err := owner.WriteBuilt(w, want); err != nil {
		t.Fatal(err)
	}
	got, err := owner.ReadBuilt(w)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	path := filepath.Join(w, "built.json")
	for _, content := range []string{"", "{", "{}", `{"run":"r1"}`, `{"repository":"/c/a"}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := owner.ReadBuilt(w)
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Environment || !strings.HasPrefix(fault.Error(), path+" is damaged: ") ||
			!strings.HasPrefix(fault.Hint, "`dalirun setup` writes it anew") {
			t.Errorf("%q: %+v", content, err)
		}
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.ReadBuilt(w); err == nil || !strings.HasPrefix(err.Error(), "read what was last built: ") {
		t.Errorf("a folder in its place: %v", err)
	}
	if err := owner.WriteBuilt(w, want); err == nil || !strings.HasPrefix(err.Error(), "record what was built: ") {
		t.Errorf("a folder in its place was replaced: %v", err)
	}
}

// Who gives up is obeyed, and the next call does it all.
func TestTakeRepositoryCutOff(t *testing.T) {
	t.Parallel()
	files := map[string]string{"dali/1/model.dali": "d", "dali/config.pbtxt": "c"}
	workspace, from := t.TempDir(), writeTree(t, files)
	why := errors.New("Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := owner.TakeRepository(ctx, workspace, from); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
	if err := owner.TakeRepository(t.Context(), workspace, from); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(files, readTree(t, owner.RepositoryPath(workspace))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
