package cli

import (
	"bytes"
	"fmt"
	"io"
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
