//go:build unix

package config_test

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/config"
)

// Whatever a file waits for, it is not waited for longer than the command lasts.
func TestReadPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Read(ctx, fifo, flags(), nil); !errors.Is(err, stopped) {
		t.Errorf("a pipe that nobody fills: %v", err)
	}
}
