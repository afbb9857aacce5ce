// Package stdout is where results go.
package stdout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// Writer passes on nothing that a terminal obeys, and remembers the first error of writing, so that no command has to
// look at each line's. It is safe for concurrent use.
//
// A pipe that nobody reads any more, as in `dalirun classify *.jpg | head -1`, is no error: what is written is dropped,
// and [Writer.Gone] says that a command need not go on.
type Writer struct {
	to io.Writer

	mu   sync.Mutex
	err  error // the first one; a *pipeline.Fault
	gone bool  // nobody reads it any more
}

// New returns a Writer to stdout.
func New(stdout io.Writer) *Writer { return &Writer{to: stdout} }

// Write writes text.
func (w *Writer) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.gone {
		return len(text), nil
	}
	_, err := io.WriteString(w.to, printable.Text(string(text)))
	switch {
	case errors.Is(err, syscall.EPIPE):
		w.gone = true
	case err != nil:
		w.err = w.fault(err)
		return 0, w.err
	}
	return len(text), nil
}

// fault is why a result was lost. It holds no error of a disk: what is full may be a device, and no flag names it.
func (w *Writer) fault(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err // it says "/dev/stdout", wherever that leads
	}
	to := redirectedTo(w.to)
	hint := "redirect the output to where it can be written"
	switch {
	case errors.Is(err, syscall.EBADF):
		hint = "stdout is not open to be written to: redirect it to a file, or to /dev/null if nobody wants the result"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "free space where it is redirected to, or redirect it to another place"
	}
	return pipeline.Faultf(pipeline.Environment, hint, "write the result to stdout%s: %v", to, err)
}

// redirectedTo names the file that a redirected stdout leads to, where the system says it.
func redirectedTo(stdout io.Writer) string {
	f, ok := stdout.(*os.File)
	if !ok {
		return ""
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil || !strings.HasPrefix(path, "/") { // a pipe, or no /proc
		return ""
	}
	return ", which is redirected to " + printable.Name(path)
}

// Err is the first error of writing, a [*pipeline.Fault], if there was one.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Gone says whether what is written from now on reaches nobody.
func (w *Writer) Gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone || w.err != nil
}

// WriteJSON writes all of v as indented JSON at once, or nothing.
func WriteJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	_, err = w.Write(append(printable.JSON(text), '\n'))
	return err
}

// WriteJSONLine writes all of v as JSON in one line, or nothing.
func WriteJSONLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	_, err = w.Write(append(printable.JSON(text), '\n'))
	return err
}

// List writes a JSON list as [WriteJSON] does, element by element: none is kept.
type List struct {
	to    io.Writer
	begun bool
}

// NewList returns a List to w, which has nothing of it yet.
func NewList(w io.Writer) *List { return &List{to: w} }

// Add writes all of an element, or nothing.
func (l *List) Add(v any) error {
	text, err := json.MarshalIndent(v, "  ", "  ")
	if err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	before := "[\n  "
	if l.begun {
		before = ",\n  "
	}
	l.begun = true
	_, err = l.to.Write(append([]byte(before), printable.JSON(text)...))
	return err
}

// Close ends the list.
func (l *List) Close() error {
	end := "\n]\n"
	if !l.begun {
		end = "[]\n"
	}
	_, err := io.WriteString(l.to, end)
	return err
}
