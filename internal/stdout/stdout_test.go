package stdout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/pipeline"
)

// Whatever a command writes, stdout gets nothing that a terminal obeys, and lines and columns stay.
func TestWriterIsHarmless(t *testing.T) {
	t.Parallel()
	var terminal bytes.Buffer
	out := stdout.New(&terminal)
	text := "one\ttwo\n\x1b[31mred\x1b]0;title\a \u202egpj\u009b2J \xe9 \x7f\n"
	if n, err := io.WriteString(out, text); n != len(text) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, len(text), err)
	}
	if want := "one\ttwo\n[31mred]0;title gpj2J \uFFFD \n"; terminal.String() != want {
		t.Errorf("stdout has %q, not %q", terminal.String(), want)
	}
}

// The first error of writing stays, nothing is written after it, and a pipe that nobody reads is none.
func TestWriterErrors(t *testing.T) {
	t.Parallel()
	full := &failing{err: syscall.ENOSPC}
	out := stdout.New(full)
	for range 2 {
		_, err := io.WriteString(out, "text")
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Environment || !errors.Is(out.Err(), fault) {
			t.Errorf("%v, and it remembers %v", err, out.Err())
		}
	}
	unread := &failing{err: fmt.Errorf("write: %w", syscall.EPIPE)}
	out = stdout.New(unread)
	for range 2 {
		if n, err := io.WriteString(out, "text"); n != 4 || err != nil || out.Err() != nil {
			t.Errorf("%d, %v, %v", n, err, out.Err())
		}
	}
	if full.n != 1 || unread.n != 1 {
		t.Errorf("after an error it wrote again: %d, %d", full.n, unread.n)
	}
	if !out.Gone() {
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

// JSON is written whole or not at all.
func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := stdout.WriteJSON(&out, map[string]any{"a": func() {}}); err == nil || out.Len() > 0 {
		t.Errorf("%v, and %q was written", err, &out)
	}
	if err := stdout.WriteJSON(&out, map[string]string{"a": "\u202e"}); err != nil || out.String() != "{\n  \"a\": \"\\u202e\"\n}\n" {
		t.Errorf("%v, %q", err, &out)
	}
}

// A file that a redirection leads to is named in the error.
func TestWriterNamesRedirection(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "result")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = readOnly.Close() })
	out := stdout.New(readOnly)
	_, err = io.WriteString(out, "text")
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Error() != "write the result to stdout, which is redirected to "+name+": bad file descriptor" ||
		!strings.HasPrefix(fault.Hint, "stdout is not open to be written to") {
		t.Errorf("%+v", err)
	}
}

// A list that is written element by element is that of WriteJSON, and a line of JSON is one line.
func TestList(t *testing.T) {
	t.Parallel()
	for _, elements := range [][]map[string]any{{}, {{"a": "\u202e"}}, {{"a": []int{1}}, {"b": nil}, {"c": map[string]int{"d": 1}}}} {
		var want, got bytes.Buffer
		if err := stdout.WriteJSON(&want, elements); err != nil {
			t.Fatal(err)
		}
		list := stdout.NewList(&got)
		for _, e := range elements {
			if err := list.Add(e); err != nil {
				t.Error(err)
			}
		}
		if err := list.Close(); err != nil || got.String() != want.String() {
			t.Errorf("%v, %q, want %q", err, &got, &want)
		}
	}
	var out bytes.Buffer
	list := stdout.NewList(&out)
	if err := list.Add(func() {}); err == nil || out.Len() > 0 {
		t.Errorf("%v, and %q was written", err, &out)
	}
	if err := stdout.WriteJSONLine(&out, map[string]string{"a": "x\n\u202e&"}); err != nil || out.String() != `{"a":"x\n\u202e&"}`+"\n" {
		t.Errorf("%v, %q", err, &out)
	}
	if err := stdout.WriteJSONLine(&out, func() {}); err == nil {
		t.Error("a function is JSON")
	}
}
