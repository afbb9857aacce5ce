package version_test

import (
	"runtime"
	"testing"

	"github.com/dalirun/dalirun/internal/version"
)

func TestBuild(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]version.Build{
		"dalirun (devel) (go1.26, linux/amd64)": {Version: "(devel)", Go: "go1.26", Platform: "linux/amd64"},
		"dalirun v1.2.3 (commit 0123456789ab, 2026-11-26T12:00:00Z, go1.26, linux/amd64)": {
			Version: "v1.2.3", Commit: "0123456789abcdef", Date: "2026-11-26T12:00:00Z", Go: "go1.26", Platform: "linux/amd64",
		},
		"dalirun v1.2.3 (commit 0123 with changes, go1.26, linux/amd64)": {
			Version: "v1.2.3", Commit: "0123", Modified: true, Go: "go1.26", Platform: "linux/amd64",
		},
	} {
		if got := b.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A test has no version of a module, and says with what it was built.
func TestThis(t *testing.T) {
	t.Parallel()
	if b := version.This(); b.Version == "" || b.Go != runtime.Version() || b.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("%+v", b)
	}
}
