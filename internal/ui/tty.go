package ui

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// tty shows what ended as lines that stay, and what runs in one line below them that is drawn again and again.
//
// It does not hide the cursor and turns no mode on: a second Ctrl-C ends the program without Close, and must leave a
// terminal that works.
type tty struct {
	live

	terminal Terminal
	palette  palette
	verbose  bool
	follow   pipeline.ID
	names    int // width of the longest step ID

	running []*ttyStep // in the order in which they started
	because map[pipeline.ID]string
}

type ttyStep struct {
	id      pipeline.ID
	started time.Time
	gauge   gauge
}

func newTTY(out *bytes.Buffer, o Options) *tty {
	return &tty{
		live: live{out: out}, terminal: o.Terminal, palette: o.Terminal.palette(), verbose: o.Verbose, follow: o.Follow,
		because: map[pipeline.ID]string{},
	}
}

func (t *tty) draw(e pipeline.Event) {
	switch x := e.Payload.(type) {
	case pipeline.RunStarted:
		for _, id := range x.Steps {
			t.names = max(t.names, ansi.StringWidth(printable.Line(string(id))))
		}
		if f := facts(x.Facts); f != "" {
			t.stay(t.palette.faint(f))
		}
	case pipeline.Decided:
		t.because[e.Step] = reasons(x.Verdict)
		if t.verbose && isShown(x.Verdict, true) {
			t.stay("  " + t.name(e.Step) + "  " + t.palette.faint(printable.Line(x.String())))
		}
	case pipeline.Started:
		t.forget(e.Step)
		t.running = append(t.running, &ttyStep{id: e.Step, started: e.Time})
	case pipeline.Line:
		if t.verbose || e.Step == t.follow {
			t.stay("  " + t.palette.faint(t.name(e.Step)+" │ ") + printable.Line(x.Text))
		}
	case pipeline.Progress:
		t.stepOf(e).gauge.set(x)
	case pipeline.Warning:
		text := printable.Line(x.Text)
		if e.Step != "" {
			text = printable.Line(string(e.Step)) + ": " + text
		}
		t.stay(t.palette.yellow("!") + " " + text)
	case pipeline.Ended:
		t.forget(e.Step)
		t.ended(e.Step, x)
	case pipeline.RunEnded:
		t.running = nil
		t.stay(runEnding(x))
	case pipeline.Result: // results are for reports
	}
}

func (t *tty) ended(id pipeline.ID, x pipeline.Ended) {
	mark, how := t.palette.faint("–"), ending(x)
	switch x.State {
	case pipeline.Done:
		mark, how = t.palette.green("✓"), elapsed(x.Elapsed)
		if b := t.because[id]; b != "" {
			how += "  " + t.palette.faint(b)
		}
	case pipeline.Failed:
		mark = t.palette.red("✗")
	case pipeline.Cancelled:
		mark = t.palette.yellow("–")
	case pipeline.Cached, pipeline.Skipped:
		how = t.palette.faint(how)
	}
	t.stay(ansi.Truncate(mark+" "+t.name(id)+"  "+how, t.terminal.width()-1, "…"))
}

// stepOf returns the running step of e. A step can have progress before it starts, as when it observes an image.
func (t *tty) stepOf(e pipeline.Event) *ttyStep {
	for _, s := range t.running {
		if s.id == e.Step {
			return s
		}
	}
	s := &ttyStep{id: e.Step, started: e.Time}
	t.running = append(t.running, s)
	return s
}

func (t *tty) forget(id pipeline.ID) {
	t.running = slices.DeleteFunc(t.running, func(s *ttyStep) bool { return s.id == id })
}

// name returns id, padded so that what follows forms a column.
func (t *tty) name(id pipeline.ID) string {
	s := printable.Line(string(id))
	return s + strings.Repeat(" ", max(0, t.names-ansi.StringWidth(s)))
}

// refresh draws lines that are new at once, and the status line at the rate of frame.
func (t *tty) refresh(now time.Time) { t.redraw(now, t.line) }

// line returns the status line. It is one column short of the terminal's width, or some terminals would go on to the
// next line.
func (t *tty) line(now time.Time) string {
	if len(t.running) == 0 {
		return ""
	}
	parts := make([]string, len(t.running))
	for i, s := range t.running {
		parts[i] = printable.Line(string(s.id)) + " " + clock(now.Sub(s.started))
		if g := s.gauge.String(); g != "" {
			parts[i] += " " + t.palette.faint(g)
		}
	}
	return ansi.Truncate(spinner(now)+" "+strings.Join(parts, " · "), t.terminal.width()-1, "…")
}
