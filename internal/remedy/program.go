package remedy

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// Program is dalirun as it was called.
type Program struct {
	Path string // os.Args[0]
	// Engine is what a shell sets for a command so that it finds the same container engine, as in DOCKER_HOST=tcp://b. It
	// is empty where every shell finds it.
	Engine string
}

// Commands writes the commands of dalirun in a text, which stand in backticks or are the whole of it, as its user can
// paste them, in any folder and any shell. Where dalirun was called by a path, nobody knows whether it is on PATH too,
// and the path is the one thing that is sure to work. A command about servers acts on those of its container engine,
// and so does docker's own that mends one.
func (p Program) Commands(text string) string {
	program := "dalirun"
	if strings.ContainsRune(p.Path, filepath.Separator) {
		if path, err := filepath.Abs(p.Path); err == nil {
			program = shell.Quote(path)
		}
	}
	if p.Engine != "" {
		text = ofEngine.ReplaceAllString(text, "${1}"+strings.ReplaceAll(p.Engine, "$", "$$")+" docker unpause ")
	}
	return command.ReplaceAllStringFunc(text, func(found string) string {
		before, rest, _ := strings.Cut(found, "dalirun ")
		if p.Engine != "" && aboutServers.MatchString(rest) {
			before += p.Engine + " "
		}
		return before + program + " " + rest
	})
}

var (
	command      = regexp.MustCompile("(^|`|&& )dalirun ([a-z]+( --help)?)?")
	ofEngine     = regexp.MustCompile("(^|`)docker unpause ")
	aboutServers = regexp.MustCompile("^(gc|ps|reload|restart|serve|stop)$") // and not their help
)

// Name writes the commands in the hints of all faults that err is made of, as [Program.Commands] does.
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
