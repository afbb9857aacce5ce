// Package needtest decides what becomes of a test that needs what this machine lacks.
package needtest

import (
	"fmt"
	"os"
	"testing"
)

// Missing ends a test that cannot run here. It skips the test, and fails it where the environment variable CI is true:
// nobody sees what CI skips.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		tb.Fatalf("CI must be able to run this test: %s", reason)
	}
	tb.Skip(reason)
}
