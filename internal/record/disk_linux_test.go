package record_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/record"
)

// fullDisk is the variable by which a test runs itself again where the folder that it names may be a disk of its own.
const fullDisk = "DALIRUN_TEST_FULL_DISK"

// A full disk ends the record and not the run. What was written before is read.
func TestRecordOnFullDisk(t *testing.T) {
	if dir := os.Getenv(fullDisk); dir != "" {
		onFullDisk(t, dir)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRecordOnFullDisk$")
	cmd.Env = append(os.Environ(), fullDisk+"="+t.TempDir())
	if out, err := mounttest.Run(t, cmd); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func onFullDisk(t *testing.T, dir string) {
	t.Helper()
	if err := mounttest.Mount(dir, "size=64k"); err != nil {
		t.Fatal(err)
	}
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
