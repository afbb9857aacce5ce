//go:build unix

package steps_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
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

// TestWeightsThatMayNotBeRead checks that rights are told of as such: the flag that names the file is not at fault.
func TestWeightsThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	w := tutorial(t)
	if err := os.Chmod(w.target.Weights.Path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := w.builder(t, steps.IDWeights).Facts(t.Context(), nil)
	if f := fault(t, err, pipeline.Environment); !strings.Contains(f.Hint, "let yourself read the file") {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
}
