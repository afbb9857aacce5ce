package trial

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/fsync"
)

// Beside a baseline that is being written the user's own files stay, and so does what another bench writes.
func TestNewFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "b.json")
	users := name + ".new"
	if err := os.WriteFile(users, []byte("the user's"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := newFile(name)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newFile(name)
	if err != nil {
		t.Fatal(err)
	}
	second.discard()
	if err := fsync.Replace(first.path, first.next, []byte("first")); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{name: "first", users: "the user's"} {
		if text, err := os.ReadFile(path); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", path, text, err, want)
		}
	}
	if left, err := os.ReadDir(dir); len(left) != 2 || err != nil {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A link goes on to name the file, whether that is there already or not.
func TestSaveByLink(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{true, false} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
			t.Fatal(err)
		}
		path, link := filepath.Join(dir, "below", "b.json"), filepath.Join(dir, "link.json")
		if err := os.Symlink("below/b.json", link); err != nil {
			t.Fatal(err)
		}
		if there {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := newFile(link)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		x := Trial{Notice: func(text string) { told = append(told, text) }}
		if err := x.save(f, bench.Result{Runs: [][]bench.Measurement{{{Answered: 1, PicturesPerSecond: 1}}}}); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); !bytes.HasPrefix(text, []byte("{")) || err != nil {
			t.Errorf("what it names: %q, %v", text, err)
		}
		if about, err := os.Lstat(link); err != nil || about.Mode().Type() != os.ModeSymlink {
			t.Errorf("the link: %v, %v", about, err)
		}
		if !slices.Equal(told, []string{"saved the baseline " + link}) {
			t.Errorf("told is %q", told)
		}
	}
}
