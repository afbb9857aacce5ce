//go:build unix

package record_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/userfile"
)

// A pipe and a device are neither opened, which could wait for ever, nor replaced.
func TestNoFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, link)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, link, os.DevNull} {
		before, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = record.Create(name, options())
		if _, other := errors.AsType[*userfile.OtherError](err); !other {
			t.Errorf("create %s: %v", name, err)
		}
		if _, err := record.Open(name); !errors.Is(err, userfile.ErrNoFile) {
			t.Errorf("open %s: %v", name, err)
		}
		if after, err := os.Lstat(name); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s is another one: %v", name, err)
		}
	}
}
