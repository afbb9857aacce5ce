// Package ui shows the events of a run to a person or to a program, and keeps them on disk.
//
// It reads no environment and opens no terminal: what is known of the output is told by [Terminal].
package ui

import (
	"bytes"
	"io"
	"time"

	"github.com/muesli/termenv"

	"github.com/dalirun/dalirun/pipeline"
)

// Mode says how events are shown.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // TTY on a terminal that can do it and outside CI, else Plain
	TTY   Mode = "tty"   // finished steps as lines, the running ones in one live line at the bottom
	Plain Mode = "plain" // one line a thing
	JSON  Mode = "json"  // JSON Lines of [pipeline.Event], all of them
	Quiet Mode = "quiet" // warnings alone; errors come from [Error]
)

// Modes returns all modes, the default first.
func Modes() []Mode { return []Mode{Auto, TTY, Plain, JSON, Quiet} }

// Terminal is what is known of the place that the output goes to.
type Terminal struct {
	IsTTY         bool
	NoColor       bool   // NO_COLOR is set and not empty
	Term          string // TERM
	CI            bool   // CI is set
	GitHubActions bool   // GITHUB_ACTIONS is "true"
	// Width returns the columns of the terminal now. Nil, or a result below 1, means 80.
	Width func() int
	// Height returns the rows of the terminal now. Nil, or a result below 1, means 24.
	Height func() int
}

func (t Terminal) canMoveCursor() bool { return t.IsTTY && t.Term != "dumb" }

// movesCursor says whether a line may be drawn again and again: CI keeps what is written.
func (t Terminal) movesCursor() bool { return t.canMoveCursor() && !t.CI && !t.GitHubActions }

func (t Terminal) width() int {
	const usual = 80
	return sizeOr(t.Width, usual)
}

func (t Terminal) height() int {
	const usual = 24
	return sizeOr(t.Height, usual)
}

func sizeOr(size func() int, usual int) int {
	if size == nil {
		return usual
	}
	if n := size(); n > 0 {
		return n
	}
	return usual
}

func (t Terminal) palette() palette {
	// 16 colours are those of the user's own theme, on a light background too.
	if t.canMoveCursor() && !t.NoColor {
		return palette{termenv.ANSI}
	}
	return palette{termenv.Ascii}
}

// Options of a renderer.
type Options struct {
	Terminal Terminal
	Verbose  bool           // show the steps' output, and verdicts of steps that will not run
	Follow   pipeline.ID    // a step whose output is shown in any case, as a server's log is
	Location *time.Location // of the times that Plain prints; nil is UTC
}

// Renderer shows events. Emit never waits for the output: a terminal that is held up holds up no step.
type Renderer interface {
	pipeline.Sink
	// Close shows what is left, leaves the terminal clean and returns the first error of writing. Events after it are
	// dropped.
	Close() error
}

// New returns a renderer of a mode that writes to w. An unknown mode, and TTY without a terminal, is a usage fault.
func New(mode Mode, w io.Writer, o Options) (Renderer, error) {
	if mode == Auto {
		mode = Plain
		if o.Terminal.movesCursor() {
			mode = TTY
		}
	}
	var buf bytes.Buffer
	switch mode {
	case TTY:
		if !o.Terminal.canMoveCursor() {
			return nil, pipeline.Usagef("use --progress plain",
				"progress mode tty: the output is not a terminal that can move its cursor")
		}
		return start(w, &buf, newTTY(&buf, o), frame), nil
	case Plain:
		return start(w, &buf, newPlain(&buf, o), overdue), nil
	case JSON:
		return start(w, &buf, jsonLines{&buf}, 0), nil
	case Quiet:
		return start(w, &buf, newQuiet(&buf, o), 0), nil
	default:
		return nil, pipeline.Usagef("use auto, tty, plain, json or quiet",
			"progress mode %q is not known", string(mode))
	}
}

// Tee returns a sink that hands each event to all sinks, in order.
func Tee(sinks ...pipeline.Sink) pipeline.Sink { return tee(sinks) }

type tee []pipeline.Sink

func (t tee) Emit(e pipeline.Event) {
	for _, s := range t {
		s.Emit(e)
	}
}

// WarningsOnly returns a sink that hands on warnings alone, as of a run that is part of another one.
func WarningsOnly(to pipeline.Sink) pipeline.Sink { return warningsOnly{to} }

type warningsOnly struct{ to pipeline.Sink }

func (w warningsOnly) Emit(e pipeline.Event) {
	if _, ok := e.Payload.(pipeline.Warning); ok {
		w.to.Emit(e)
	}
}
