package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/dalirun/dalirun/internal/printable"
)

// A Screen shows a text of some lines again and again, as it changes.
type Screen struct {
	to       io.Writer
	terminal Terminal
	drawn    int // lines of the last text
	begun    bool
}

// NewScreen returns a Screen on w. On a terminal that can move its cursor, and outside CI, each text is drawn in the
// place of the one before; elsewhere it comes below that, after an empty line. It has no colours.
func NewScreen(w io.Writer, t Terminal) *Screen { return &Screen{to: w, terminal: t} }

// InPlace says whether [Screen.Draw] moves the cursor.
func (s *Screen) InPlace() bool { return s.terminal.movesCursor() }

// Draw shows a text. It is written at once, and each line over the one before, so that nothing flickers. What does not
// fit into the terminal is left out: a line that is broken, or scrolled away, could not be drawn over.
func (s *Screen) Draw(text string) error {
	text = printable.Text(strings.TrimSuffix(text, "\n"))
	var b strings.Builder
	if !s.InPlace() {
		if s.begun {
			b.WriteString("\n")
		}
		b.WriteString(text + "\n")
	} else {
		lines := strings.Split(text, "\n")
		if most := s.terminal.height() - 1; len(lines) > most { // the cursor is in the line below
			lines = lines[:most]
		}
		if s.drawn > 0 {
			fmt.Fprintf(&b, "\r\x1b[%dA", s.drawn)
		}
		for _, line := range lines {
			b.WriteString(ansi.Truncate(line, s.terminal.width()-1, "…") + ansi.EraseLineRight + "\n")
		}
		b.WriteString(ansi.EraseScreenBelow)
		s.drawn = len(lines)
	}
	s.begun = true
	_, err := io.WriteString(s.to, b.String())
	return err
}
