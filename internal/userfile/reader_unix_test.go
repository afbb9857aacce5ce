//go:build unix

package userfile_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// Whatever a file waits for, its reader does not wait for longer than the context, and says why.
func TestReaderEndsWithContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	silent := filepath.Join(dir, "silent")
	for _, name := range []string{fifo, silent} {
		if err := syscall.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.OpenFile(silent, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Close() })
	stdin, _ := io.Pipe()
	for what, name := range map[string]string{"nobody opens it": fifo, "nobody writes to it": silent, "stdin is silent": userfile.Stdin} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			stopped := errors.New("stopped")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, stopped)
			defer cancel()
			in := &userfile.Reader{Stdin: stdin}
			if _, _, err := in.Picture(ctx, name); !errors.Is(err, stopped) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// What does not come to its end is given up, with what to do.
func TestReaderGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stdin, writer := io.Pipe()
		defer writer.Close() //nolint:errcheck // it has none
		in := &userfile.Reader{Stdin: stdin}
		_, _, err := in.Picture(t.Context(), userfile.Stdin)
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Usage || !strings.Contains(err.Error(), "it did not come to its end within 5m0s") ||
			fault.Hint != "let what fills the pipe close it, as `<(...)` and `|` do, or name a file" {
			t.Errorf("it ended with %+v", err)
		}
	})
}

// At most one byte more than the limit is read of what has no end.
func TestReaderLimit(t *testing.T) {
	t.Parallel()
	endless := &counting{}
	in := &userfile.Reader{Stdin: endless}
	if _, err := in.Read(t.Context(), userfile.Stdin, 1000); !errors.Is(err, userfile.ErrTooLong) {
		t.Errorf("it ended with %v", err)
	}
	if endless.n > 1001 {
		t.Errorf("%d bytes were read", endless.n)
	}
	in = &userfile.Reader{Stdin: strings.NewReader(strings.Repeat("x", 1000))}
	if data, err := in.Read(t.Context(), userfile.Stdin, 1000); err != nil || len(data) != 1000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	in = &userfile.Reader{Stdin: &counting{}}
	_, _, err := in.Picture(t.Context(), userfile.Stdin)
	if err == nil || !strings.Contains(err.Error(), "- (standard input): picture is too large: more than 64 MiB, which is the limit") {
		t.Errorf("a picture without an end: %v", err)
	}
}

// counting gives bytes without an end.
type counting struct{ n int }

func (c *counting) Read(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}
