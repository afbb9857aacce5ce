package steps_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestWeightsThatMayNotBeRead checks that rights are told of as such: the flag that names the file is not at fault.
func TestWeightsThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	w := tutorial(t)
	if err := os.Chmod(w.target.Weights.Path, 0); err != nil {
		t.Fatal(err)
	}
	obeyModes(t)
	_, err := w.builder(t, steps.IDWeights).Facts(t.Context(), nil)
	if f := fault(t, err, pipeline.Environment); !strings.Contains(f.Hint, "let yourself read it") {
		t.Errorf("got %q with the hint %q", f, f.Hint)
	}
}

// obeyModes takes from the calling test what lets root read every file. The test gives its thread up: the capabilities
// are the thread's, and both end with the test (https://man7.org/linux/man-pages/man7/capabilities.7.html).
func obeyModes(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // of capabilities 0 to 31, and of those after
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}
