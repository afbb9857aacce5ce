package printable_test

import (
	"testing"

	"github.com/dalirun/dalirun/internal/printable"
)

func TestList(t *testing.T) {
	t.Parallel()
	for want, parts := range map[string][]string{"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b and c": {"a", "b", "c"}} {
		if got := printable.List(parts); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
