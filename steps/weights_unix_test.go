//go:build unix

package steps_test

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipeAsWeights checks that nobody waits for a pipe that nobody writes to.
func TestPipeAsWeights(t *testing.T) {
	t.Parallel()
	w := tutorial(t)
	w.target.Weights.Path = filepath.Join(w.dir, "pipe.pth")
	if err := syscall.Mkfifo(w.target.Weights.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	w.wantUnreadable(t, "is not a file")
}
