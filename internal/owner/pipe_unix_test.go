//go:build unix

package owner_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

func TestVerdictOfWhatIsNoFile(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	must(t, os.MkdirAll(owner.RunDir(w, "r1"), 0o700))
	must(t, syscall.Mkfifo(filepath.Join(owner.RunDir(w, "r1"), "lock"), 0o600))
	must(t, syscall.Mkfifo(owner.ServerPath(w), 0o600))
	done := make(chan struct{})
	go func() {
		defer close(done)
		wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Unknown, "lock is not a file")
		wantVerdict(t, labels(w, container.RoleServer, container.LabelRun, "r0"), thisHost(), owner.Unknown, "server.json is not a file")
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the verdict waits for a pipe's other end")
	}
}
