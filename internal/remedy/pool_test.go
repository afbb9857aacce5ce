package remedy_test

import (
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/tooltest"
)

// The line of a real server is known, and no other line of its log is taken for it.
func TestPoolOverflow(t *testing.T) {
	t.Parallel()
	told := 0
	for line := range strings.Lines(tooltest.Output("tritonserver-gpu-stop.log")) {
		text := remedy.PoolOverflow(line)
		if (text != "") != strings.Contains(line, "falling back to pinned system memory") {
			t.Errorf("%q is %q", line, text)
		}
		if text != "" {
			told++
		}
	}
	if told == 0 {
		t.Error("the log has no such line")
	}
}
