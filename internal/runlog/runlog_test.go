package runlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 5e6, time.UTC) }

func read(t *testing.T, path string) []string {
	t.Helper()
	var got []string
	err := Read(path, func(at time.Time, text string) error {
		got = append(got, fmt.Sprintf("%d %s", at.Second(), text))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

// A log has at most two files, and of each line one copy.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir(), "serve")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	line := Line(at(0), "line 0")
	f.max = int64(2 * len(line))
	for i := range 5 {
		if i == 2 { // who continues a log counts what it has
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if f, err = Open(path); err != nil {
				t.Fatal(err)
			}
			f.max = int64(2 * len(line))
		}
		if _, err := f.Write(Line(at(i), fmt.Sprintf("line %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2 line 2", "3 line 3", "4 line 4"}, read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) != 2 || filepath.Base(files[0]) != "serve.1.log" {
		t.Errorf("files: %q, %v", files, err)
	}
	if err := Replace(path, Line(at(9), "all")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"9 all"}, read(t, path)); diff != "" {
		t.Errorf("replaced (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A log that cannot take the place of the older one goes on, and does so once it can. It does not become ever larger.
func TestRotationFails(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir(), "serve")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it ends with the test
	f.max = int64(2 * len(Line(at(0), "line 0")))
	write := func(from, to int) error {
		for i := from; i < to; i++ {
			if _, err := f.Write(Line(at(i), fmt.Sprintf("line %d", i))); err != nil {
				return err
			}
		}
		return nil
	}
	inTheWay := filepath.Join(older(path), "below")
	if err := errors.Join(os.MkdirAll(inTheWay, 0o700), write(0, 4)); err != nil {
		t.Error(err)
	}
	if err := write(4, 5); err == nil {
		t.Error("it becomes ever larger")
	}
	if err := errors.Join(os.RemoveAll(older(path)), write(5, 6)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"0 line 0", "1 line 1", "2 line 2", "3 line 3", "5 line 5"}, read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// It is in the place of the older one already, and had no new one.
	if err := errors.Join(write(6, 7), os.Rename(path, older(path)), write(7, 9)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"5 line 5", "6 line 6", "7 line 7", "8 line 8"}, read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A log that takes the place of the older one while it is read is read as it was: each line once, and none is missing.
func TestReadWhileRotated(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir(), "serve")
	begun := errors.Join(os.WriteFile(older(path), Line(at(1), "a"), 0o600), os.WriteFile(path, Line(at(2), "b"), 0o600))
	if begun != nil {
		t.Fatal(begun)
	}
	var got []string
	err := Read(path, func(_ time.Time, text string) error {
		got = append(got, text)
		if text != "a" {
			return nil
		}
		return errors.Join(os.Rename(path, older(path)), os.WriteFile(path, Line(at(3), "c"), 0o600))
	})
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if err := errors.Join(os.Remove(older(path)), os.Link(path, older(path))); err != nil { // as between two openings
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"3 c"}, read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Lines are harmless, whoever reads them; what has no time is text.
func TestRead(t *testing.T) {
	t.Parallel()
	path := Path(t.TempDir(), "serve")
	text := append(Line(at(1), "\x1b[31mred\x1b[0m\nand "), "cut by a full disk"...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 red and ", "0 cut by a full disk"}, read(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	enough := errors.New("enough")
	if err := Read(path, func(time.Time, string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if got := read(t, Path(t.TempDir(), "serve")); got != nil {
		t.Errorf("of no log: %q", got)
	}
}

// The last log is the one that was written last, not that of the newest run.
func TestLast(t *testing.T) {
	t.Parallel()
	runs := t.TempDir()
	if dir, _, err := Last(filepath.Join(runs, "none"), "serve"); dir != "" || err != nil {
		t.Errorf("of no runs: %q, %v", dir, err)
	}
	for run, written := range map[string]time.Time{"r1": at(3), "r2": at(2), "r3": {}} {
		dir := filepath.Join(runs, run)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if written.IsZero() {
			continue
		}
		if err := errors.Join(Replace(Path(dir, "serve"), nil), os.Chtimes(Path(dir, "serve"), written, written)); err != nil {
			t.Fatal(err)
		}
	}
	dir, written, err := Last(runs, "serve")
	if dir != filepath.Join(runs, "r1") || !written.Equal(at(3)) || err != nil {
		t.Errorf("got %q of %s, %v", dir, written, err)
	}
	if dir, _, err := Last(runs, "verify"); dir != "" || err != nil {
		t.Errorf("of another step: %q, %v", dir, err)
	}
}

// What is in the way of a log, or of reading one, is told of.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	none := Path(filepath.Join(t.TempDir(), "none"), "serve")
	if _, err := Open(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open in no folder: %v", err)
	}
	if err := Replace(none, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Replace in no folder: %v", err)
	}
	path := Path(t.TempDir(), "serve")
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "below"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, nil); err == nil {
		t.Error("a folder was replaced")
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(files) != 1 {
		t.Errorf("left beside it: %q, %v", files, err)
	}
	if _, _, err := Last(filepath.Join(path, "below"), "serve"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Last of a file: %v", err)
	}
}

// A log whose folder was removed takes lines until it has twice its size, and is closed as any other.
func TestRotationWithoutFolder(t *testing.T) {
	t.Parallel()
	path := Path(filepath.Join(t.TempDir(), "r1"), "serve")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	line := Line(at(0), "line 0")
	f.max = int64(len(line))
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if n, err := f.Write(line); n != len(line) || err != nil {
			t.Errorf("line %d: %d bytes, %v", i, n, err)
		}
	}
	if _, err := f.Write(line); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a third line: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
