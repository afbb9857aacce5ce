package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
)

// Whatever a command writes, stdout gets nothing that a terminal obeys, and lines and columns stay.
func TestOutputIsHarmless(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	out := &output{to: &stdout}
	text := "one\ttwo\n" + evil + "\n"
	if n, err := io.WriteString(out, text); n != len(text) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, len(text), err)
	}
	if want := "one\ttwo\n[31mred]0;title gpj2J \uFFFD \n"; stdout.String() != want {
		t.Errorf("stdout has %q, not %q", stdout.String(), want)
	}
}

// The first error of writing stays, nothing is written after it, and a pipe that nobody reads is none.
func TestOutputErrors(t *testing.T) {
	t.Parallel()
	full := &failing{err: syscall.ENOSPC}
	out := &output{to: full}
	for range 2 {
		_, err := io.WriteString(out, "text")
		if exitCode(err) != ExitEnvironment || exitCode(out.failure()) != ExitEnvironment {
			t.Errorf("%v, and it remembers %v", err, out.failure())
		}
	}
	unread := &failing{err: fmt.Errorf("write: %w", syscall.EPIPE)}
	out = &output{to: unread}
	for range 2 {
		if n, err := io.WriteString(out, "text"); n != 4 || err != nil || out.failure() != nil {
			t.Errorf("%d, %v, %v", n, err, out.failure())
		}
	}
	if full.n != 1 || unread.n != 1 {
		t.Errorf("after an error it wrote again: %d, %d", full.n, unread.n)
	}
	if a := (&App{Stdout: out}); !a.stdoutGone() {
		t.Error("a command cannot see that nobody reads")
	}
}

// failing fails each write, and counts them.
type failing struct {
	err error
	n   int
}

func (f *failing) Write([]byte) (int, error) {
	f.n++
	return 0, f.err
}

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
