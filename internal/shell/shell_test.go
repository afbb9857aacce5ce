package shell_test

import (
	"os/exec"
	"testing"

	"github.com/dalirun/dalirun/internal/shell"
)

// A shell reads each line as the arguments that it was made of.
func TestLine(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"plain", "--flag=value", "", "two words", "it's", `back\slash`, "$HOME", "`id`", "a;b", "~", "ü", "new\nline", "*"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", shell.Line("printf", "%s|", arg, "end")).Output()
		if want := arg + "|end|"; err != nil || string(out) != want {
			t.Errorf("%q: %q, %v; want %q", arg, out, err, want)
		}
	}
	if got := shell.Line("dalirun", "serve", "--weights=random:0"); got != "dalirun serve --weights=random:0" {
		t.Errorf("what needs no quotes has some: %s", got)
	}
}
