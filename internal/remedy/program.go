package remedy

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// Program is dalirun as it was called, os.Args[0].
type Program string

// Commands writes the commands of dalirun in a text, which stand in backticks or are the whole of it, as its user can
// paste them: where dalirun was called by a path, nobody knows whether it is on PATH too, and the path is the one thing
// that is sure to work, in any folder.
func (p Program) Commands(text string) string {
	if !strings.ContainsRune(string(p), filepath.Separator) {
		return text
	}
	program, err := filepath.Abs(string(p))
	if err != nil {
		return text
	}
	return regexp.MustCompile("(^|`|&& )dalirun ").ReplaceAllStringFunc(text, func(command string) string {
		return strings.Replace(command, "dalirun", shell.Quote(program), 1)
	})
}

// Name does that in the hints of all faults that err is made of.
func (p Program) Name(err error) {
	switch e := err.(type) { //nolint:errorlint // of this very error; what it wraps comes by itself
	case nil:
		return
	case *pipeline.Fault:
		e.Hint = p.Commands(e.Hint)
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			p.Name(part)
		}
		return
	}
	p.Name(errors.Unwrap(err))
}
