package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/mounttest"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// TestBelowOnReadOnlyDisk works on a file system that only the helper process sees, and that goes with it.
func TestBelowOnReadOnlyDisk(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], t.TempDir(), t.TempDir())
	cmd.Env = append(os.Environ(), helperEnv+"=below")
	if out, err := mounttest.Run(t, cmd); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// belowOnReadOnlyDisk is the helper's part: what is on a disk that cannot be written is read, and what does not fit on a
// small one is not half imported.
func belowOnReadOnlyDisk(disk, free string) error {
	if err := mounttest.Mount(disk, "size=4m"); err != nil {
		return err
	}
	below, err := store.Open(filepath.Join(disk, "cache"))
	if err != nil {
		return err
	}
	tx, err := below.Begin(context.Background(), "a", nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tx.Dir(), "model"), bytes.Repeat([]byte("model "), 100<<10), 0o600); err != nil {
		return err
	}
	e, err := tx.Commit("s", pipeline.Facts{"argv": "x"}, []string{"model"})
	if err != nil {
		return err
	}
	release, err := below.HoldImages(context.Background(), "image:1")
	if err == nil {
		err = errors.Join(e.Close(), release(), below.Remember("key", "value"),
			syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	}
	if err != nil {
		return err
	}
	s, err := store.OpenOver(filepath.Join(free, "own"), below.Dir())
	if err != nil {
		return err
	}
	if e, err = s.Get("a"); err != nil {
		return fmt.Errorf("get from a read-only disk: %w", err)
	}
	if release, err = s.HoldImages(context.Background(), "image:1"); err != nil {
		return err
	}
	var archive bytes.Buffer
	only, err := store.OpenReadOnly(below.Dir())
	if err == nil {
		_, err = only.Export(context.Background(), &archive, "main")
	}
	if err := errors.Join(err, e.Verify(), e.Close(), release()); err != nil {
		return err
	}
	if value, ok := s.Recall("key"); !ok || value != "value" {
		return fmt.Errorf("recalled %q, %t", value, ok)
	}

	small := filepath.Join(free, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		return err
	}
	if err := mounttest.Mount(small, "size=256k"); err != nil {
		return err
	}
	full, err := store.Open(filepath.Join(small, "cache"))
	if err != nil {
		return err
	}
	if _, err := full.Import(context.Background(), &archive, "main", 1<<30); !errors.Is(err, syscall.ENOSPC) ||
		errors.Is(err, store.ErrArchive) {
		return fmt.Errorf("import onto a full disk: %w", err)
	}
	for _, dir := range []string{"tmp", "entries", "locks"} {
		if left, err := os.ReadDir(filepath.Join(full.Dir(), dir)); err != nil || len(left) > 0 {
			return fmt.Errorf("after the import %v is left: %w", left, err)
		}
	}
	return nil
}
