package ui

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// NewMeter returns a renderer of work with many items. It shows lines and warnings, and below them in one line how
// many items are done and how fast, from [pipeline.Started] on: of the last [pipeline.Progress] Current, Total, Unit
// and Text, which says what else there is to know. [pipeline.RunEnded] leaves the last figures there. Outside a
// terminal that can move its cursor, and in CI, there are no figures.
func NewMeter(w io.Writer, t Terminal) Renderer {
	var buf bytes.Buffer
	return start(w, &buf, &meter{live: live{out: &buf}, terminal: t}, frame)
}

// meter is the view of a Meter.
type meter struct {
	live

	terminal Terminal
	started  time.Time // zero while no figures are shown
	now      pipeline.Progress
}

func (m *meter) draw(e pipeline.Event) {
	switch x := e.Payload.(type) {
	case pipeline.Started:
		if m.terminal.movesCursor() {
			m.started = e.Time
		}
	case pipeline.Progress:
		m.now = x
	case pipeline.Line:
		m.stay(printable.Line(x.Text))
	case pipeline.Warning:
		m.stay("warning: " + printable.Line(x.Text))
	case pipeline.RunEnded:
		if !m.started.IsZero() {
			m.stay(m.figures(x.Elapsed))
		}
		m.started = time.Time{}
	default: // of steps, which a meter has none of
	}
}

func (m *meter) refresh(now time.Time) { m.redraw(now, m.line) }

// line is one column short of the terminal's width, as that of tty.
func (m *meter) line(now time.Time) string {
	if m.started.IsZero() {
		return ""
	}
	return ansi.Truncate(spinner(now)+" "+m.figures(now.Sub(m.started)), m.terminal.width()-1, "…")
}

// figures is "37 of 200 pictures in 2.3s, 16.1 a second, 3 failed".
func (m *meter) figures(took time.Duration) string {
	text := fmt.Sprintf("%d of %s in %s", m.now.Current, quantity(m.now.Total, m.now.Unit), elapsed(took))
	if seconds := took.Seconds(); m.now.Current > 0 && seconds > 0 {
		text += fmt.Sprintf(", %.1f a second", float64(m.now.Current)/seconds)
	}
	if m.now.Text != "" {
		text += ", " + printable.Line(m.now.Text)
	}
	return text
}
