package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// What others chose of a warning, such as the name of a variable, steers no terminal, whichever command tells of it.
func TestWarningsAreHarmless(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"plan", "--opt-batch", "3", "--max-batch", "2"}} {
		var stderr bytes.Buffer
		appIn(map[string]string{"DALIRUN_X\x1b[31m": "1"}, io.Discard, &stderr).Run(t.Context(), args)
		if said := stderr.String(); !strings.HasPrefix(said, "warning: DALIRUN_X is not read: ") || strings.Contains(said, "\x1b") {
			t.Errorf("%s: %q", args[0], said)
		}
	}
}
