package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/host"
)

// TestCommandLeavesNoChild ends a program that hangs in a child, as a wrapper around nvidia-smi does.
func TestCommandLeavesNoChild(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := host.Command(ctx, "sh", "-c", `sleep 1000 & echo $! >"$0.new"; mv "$0.new" "$0"; wait`, file)
		done <- err
	}()
	var pid []byte
	for deadline := time.Now().Add(30 * time.Second); len(pid) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the child has not begun")
		}
		time.Sleep(5 * time.Millisecond)
		pid, _ = os.ReadFile(file)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("it ended well")
	}
	stat := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(text), ") Z ") { // gone, or nobody has asked how it ended
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the child lives on: %s", text)
		}
	}
}
