package needtest_test

import (
	"runtime"
	"testing"

	"github.com/dalirun/dalirun/internal/needtest"
)

// outcome is a test that records how it ended.
type outcome struct {
	testing.TB

	failed, skipped bool
}

func (o *outcome) Helper() {}

func (o *outcome) Fatalf(string, ...any) {
	o.failed = true
	runtime.Goexit()
}

func (o *outcome) Skip(...any) {
	o.skipped = true
	runtime.Goexit()
}

// A machine that lacks something fails a test in CI, and skips it elsewhere.
func TestMissing(t *testing.T) { //nolint:paralleltest // it sets an environment variable
	for value, want := range map[string]outcome{"true": {failed: true}, "": {skipped: true}} {
		t.Setenv("CI", value)
		got, ended := outcome{TB: t}, make(chan bool)
		go func() {
			defer close(ended)
			needtest.Missing(&got, "a %s", "thing")
		}()
		<-ended
		if got.failed != want.failed || got.skipped != want.skipped {
			t.Errorf("CI=%q: failed %t, skipped %t", value, got.failed, got.skipped)
		}
	}
}
