package record_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/record"
)

// A full disk ends the record and not the run. What was written before is read.
func TestRecordOnFullDisk(t *testing.T) {
	t.Parallel()
	mounttest.OnDisk(t, "size=64k", onFullDisk)
}

// A disk that was full for a moment costs nothing: the record is written whole in the end, and that is no error.
func TestRecordOnDiskThatWasFull(t *testing.T) {
	t.Parallel()
	mounttest.OnDisk(t, "size=64k", func(t *testing.T, dir string) {
		t.Helper()
		path, large := filepath.Join(dir, "r"+record.Suffix), filepath.Join(dir, "large")
		w := create(t, path)
		story(w)
		w.Snapshot()
		if err := os.WriteFile(large, make([]byte, 1<<20), 0o600); err == nil {
			t.Fatal("the disk is not full")
		}
		noise := make([]byte, 10_000)
		rand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // never fails
		w.AddBytes(record.PictureFile, noise)
		w.Snapshot()
		if err := errors.Join(os.Remove(large), w.Close()); err != nil {
			t.Error(err)
		}
		if r := open(t, path); r.Cut != nil || !slices.Contains(r.Files(), record.PictureFile) {
			t.Errorf("%q, %v", r.Files(), r.Cut)
		}
	})
}

func onFullDisk(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "r"+record.Suffix)
	w := create(t, path)
	story(w)
	w.Snapshot()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	noise := make([]byte, 100_000)          // which cannot be compressed
	rand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // never fails
	w.AddBytes(record.PictureFile, noise)
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "is not complete: ") || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("%v", err)
	}
	if r := open(t, path); len(r.Run().Steps) != 2 || r.Cut == nil {
		t.Errorf("%+v, %v", r.Run(), r.Cut)
	}
}
