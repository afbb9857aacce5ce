package fsync_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/fsync"
)

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// files returns the contents of the files in dir by their names.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(data)
	}
	return found
}

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, temporary := filepath.Join(dir, "file"), filepath.Join(dir, "file.new")
	for _, text := range []string{"first", "", "the second one"} {
		if err := fsync.Replace(path, create(t, temporary), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"file": text}, files(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
}

// What cannot be written or renamed leaves what was there before, and no temporary file.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path string
		make func(t *testing.T, temporary string) *os.File
	}{
		"a folder in its place": {"folder", create},
		"no such folder":        {"none/file", create},
		"closed": {"file", func(t *testing.T, temporary string) *os.File {
			t.Helper()
			f := create(t, temporary)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return f
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			f := c.make(t, filepath.Join(dir, "temporary"))
			if err := fsync.Replace(filepath.Join(dir, c.path), f, []byte("after")); err == nil {
				t.Error("no error")
			}
			if diff := cmp.Diff(map[string]string{"file": "before"}, files(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// The new file has the mode that was asked for, whatever the umask and the mode of the one before.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, c := range []struct {
		text string
		mode fs.FileMode
	}{{"first", 0o644}, {"", 0o600}, {"the third one", 0o666}} {
		if err := fsync.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"file": c.text}, files(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != c.mode {
			t.Errorf("mode = %v, want %v", info.Mode(), c.mode)
		}
	}
}

// Other names of the file that is replaced keep what they had.
func TestWriteFileLeavesOthers(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(from, to string) error{"a hard link": os.Link, "a symbolic link": os.Symlink} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			other, path := filepath.Join(dir, "other"), filepath.Join(dir, "file")
			if err := errors.Join(os.WriteFile(other, []byte("before"), 0o600), link(other, path)); err != nil {
				t.Fatal(err)
			}
			if err := fsync.WriteFile(path, []byte("after"), 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"other": "before", "file": "after"}, files(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"a folder in its place": "folder", "no such folder": "none/file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := fsync.WriteFile(filepath.Join(dir, path), []byte("after"), 0o600); err == nil {
				t.Error("no error")
			}
			if diff := cmp.Diff(map[string]string{}, files(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	if err := fsync.Dir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := fsync.Dir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
