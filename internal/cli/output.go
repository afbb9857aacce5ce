package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// output is stdout. It passes on nothing that a terminal obeys, and remembers the first error of writing, so that no command has to look at
// each line's.
//
// A pipe that nobody reads any more, as in `dalirun classify *.jpg | head -1`, is no error: what is written is dropped, and a command
// may see that it need not go on.
type output struct {
	to io.Writer

	mu   sync.Mutex
	err  error // the first one; a *pipeline.Fault
	gone bool  // nobody reads it any more
}

// Write writes text.
func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	if o.gone {
		return len(text), nil
	}
	_, err := io.WriteString(o.to, printable.Text(string(text)))
	switch {
	case errors.Is(err, syscall.EPIPE):
		o.gone = true
	case err != nil:
		o.err = o.fault(cause(err))
		return 0, o.err
	}
	return len(text), nil
}

// fault is why a result was lost. It holds no error of a disk: what is full may be a device, and no flag names it.
func (o *output) fault(err error) error {
	to := redirectedTo(o.to)
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

// failure is the first error of writing, if there was one.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// stdoutGone says whether what is written to stdout from now on reaches nobody.
func (a *App) stdoutGone() bool {
	o, ok := a.Stdout.(*output)
	if !ok {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone || o.err != nil
}

// writeJSON writes all of v at once, or nothing.
func writeJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	_, err = w.Write(append(printable.JSON(text), '\n'))
	return err
}
