package spelling_test

import (
	"testing"

	"github.com/dalirun/dalirun/internal/spelling"
)

// Capitals do not count, and a word that is like none is like none.
func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"pretrained", "auto", "opt-batch", "max-batch"}
	for word, want := range map[string]string{
		"pretraind": `did you mean "pretrained"?`, "AUTO": `did you mean "auto"?`, "opt_batch": `did you mean "opt-batch"?`, "xyzzy": "", "": "",
	} {
		if got := spelling.Nearest(word, known); got != want {
			t.Errorf("%q: %s", word, got)
		}
	}
}
