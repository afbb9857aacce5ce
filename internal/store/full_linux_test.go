package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// TestDiskFull works on a file system of 1 MiB that only the helper process sees, and that goes with it.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], t.TempDir(), "f")
	cmd.Env = append(os.Environ(), helperEnv+"=full")
	if out, err := mounttest.Run(t, cmd); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// fullDisk is the helper's part.
func fullDisk(dir string) error {
	if err := mounttest.Mount(dir, "size=1m"); err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(dir, "cache"))
	if err != nil {
		return err
	}
	tx, err := s.Begin(context.Background(), "small", nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tx.Dir(), "model"), make([]byte, 100<<10), 0o600); err != nil {
		return err
	}
	e, err := tx.Commit("s", nil, []string{"model"})
	if err != nil {
		return err
	}
	if err := e.Close(); err != nil {
		return err
	}

	// The disk becomes full between the builder's last byte and the manifest.
	tx, err = s.Begin(context.Background(), "large", nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tx.Dir(), "model"), []byte("x"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tx.Dir(), "rest"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk should be full: %w", err)
	}
	if _, err := tx.Commit("s", pipeline.Facts{"argv": strings.Repeat("x", 10000)}, []string{"model"}); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the commit on a full disk: %w", err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(left) > 0 {
		return fmt.Errorf("after the commit %v is left: %w", left, err)
	}
	if _, err := s.Get("large"); !errors.Is(err, pipeline.ErrMiss) {
		return fmt.Errorf("get of what was not stored: %w", err)
	}

	// A full disk can be emptied, and what was there is whole.
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk should be full: %w", err)
	}
	if err := s.Remember("key", "value"); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("remember on a full disk: %w", err)
	}
	if e, err = s.Get("small"); err != nil {
		return err
	}
	if err := errors.Join(e.Verify(), e.Close()); err != nil {
		return err
	}
	if gone, err := s.Evict(context.Background(), 0); err != nil || len(gone) != 1 {
		return fmt.Errorf("evicted %v from a full disk: %w", gone, err)
	}
	return nil
}
