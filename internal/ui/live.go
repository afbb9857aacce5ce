package ui

import (
	"bytes"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// frame is how long one picture of the status line stands.
const frame = 100 * time.Millisecond

// live draws lines that stay, and one line below them again and again.
type live struct {
	out    *bytes.Buffer
	lines  bytes.Buffer // that are to stay and are not drawn yet
	status string       // that is on the screen
	drawn  time.Time
}

func (l *live) stay(text string) { l.lines.WriteString(text + "\n") }

// redraw draws lines that are new at once, and the status line at the rate of frame.
func (l *live) redraw(now time.Time, status func(now time.Time) string) {
	if l.lines.Len() == 0 && now.Sub(l.drawn) < frame {
		return
	}
	l.drawn = now
	l.write(status(now))
}

func (l *live) end() { l.write("") }

// write writes new lines and then the status line.
func (l *live) write(status string) {
	if l.lines.Len() == 0 && status == l.status {
		return
	}
	if l.status != "" {
		l.out.WriteString("\r" + ansi.EraseLineRight)
	}
	_, _ = l.lines.WriteTo(l.out) // a bytes.Buffer takes everything
	l.out.WriteString(status)
	l.status = status
}

// spinner is what shows that something goes on.
func spinner(now time.Time) string {
	turns := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	return string(turns[now.UnixMilli()/frame.Milliseconds()%int64(len(turns))])
}
