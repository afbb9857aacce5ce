package userfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/userfile"
)

// A new file takes the place of one of its kind, of an empty one and of nothing, links followed; of nothing else.
func TestReplaceable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"ours": "ours, and more", "theirs": "theirs", "empty": ""} {
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "ours", "dangling": "nothing", "to-theirs": at("theirs"), "absolute": at("nowhere")} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	ours := func(r io.Reader) bool {
		content, err := io.ReadAll(r)
		return err == nil && strings.HasPrefix(string(content), "ours")
	}
	for name, want := range map[string]string{
		"ours": "ours", "empty": "empty", "none": "none", "link": "ours", "dangling": "nothing", "absolute": "nowhere",
		"theirs": "", "to-theirs": "", ".": "",
	} {
		path, err := userfile.Replaceable(at(name), "file of ours", ours)
		if want != "" {
			if err != nil || path != at(want) {
				t.Errorf("%s: %q, %v", name, path, err)
			}
			continue
		}
		other, ok := errors.AsType[*userfile.OtherError](err)
		if !ok || path != "" || other.Error() != at(name)+" is there already, and is no file of ours" {
			t.Errorf("%s: %q, %v", name, path, err)
		}
	}
	if path, err := userfile.Replaceable(at("theirs"), "file", nil); err != nil || path != at("theirs") {
		t.Errorf("any file: %q, %v", path, err)
	}
	if _, err := userfile.Replaceable(os.DevNull, "file", nil); err == nil {
		t.Error("a device would be replaced")
	}
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	if _, err := userfile.OpenFile(os.DevNull); !errors.Is(err, userfile.ErrNoFile) {
		t.Errorf("a device: %v", err)
	}
	if _, err := userfile.OpenFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	f, err := userfile.OpenFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
