//go:build unix

package runlog

import (
	"syscall"
	"testing"
)

// A pipe is no log: its reader might wait for ever.
func TestReadPipe(t *testing.T) {
	t.Parallel()
	pipe := Path(t.TempDir(), "serve")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Read(pipe, nil); err == nil {
		t.Error("a pipe was read")
	}
}
