package fsync_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/fsync"
)

// A file system that cannot sync folders, as /proc is one, is no error.
func TestDirThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	const proc = "/proc/self"
	f, err := os.Open(proc)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sync of %s = %v, want %v", proc, err, syscall.EINVAL)
	}
	if err := errors.Join(f.Close(), fsync.Dir(proc)); err != nil {
		t.Error(err)
	}
}
