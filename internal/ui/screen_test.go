package ui

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// A text is drawn over the one before, each line over a line, and what is too wide or too high is left out.
func TestScreen(t *testing.T) {
	t.Parallel()
	size := func(n int) func() int { return func() int { return n } }
	for name, tt := range map[string]struct {
		terminal Terminal
		texts    []string
		want     string
	}{
		"in place": {
			Terminal{IsTTY: true, Term: "xterm", Width: size(10), Height: size(4)},
			[]string{"one\ntwo\n", "a line that is too wide\nb\x1b[2J\nc\nd\n", "e"},
			"one\x1b[K\ntwo\x1b[K\n\x1b[J" + "\r\x1b[2Aa line t…\x1b[K\nb[2J\x1b[K\nc\x1b[K\n\x1b[J" + "\r\x1b[3Ae\x1b[K\n\x1b[J",
		},
		"a file":          {Terminal{}, []string{"one\ntwo\n", "three"}, "one\ntwo\n\nthree\n"},
		"a dumb terminal": {Terminal{IsTTY: true, Term: "dumb"}, []string{"one", "two"}, "one\n\ntwo\n"},
		"CI":              {Terminal{IsTTY: true, Term: "xterm", CI: true}, []string{"one", "two"}, "one\n\ntwo\n"},
		"no colours":      {Terminal{IsTTY: true, Term: "xterm", NoColor: true}, []string{"one", "two"}, "one\x1b[K\n\x1b[J\r\x1b[1Atwo\x1b[K\n\x1b[J"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out writes
			s := NewScreen(&out, tt.terminal)
			for _, text := range tt.texts {
				if err := s.Draw(text); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(out, ""); got != tt.want {
				t.Errorf("%q\nwant %q", got, tt.want)
			}
			if len(out) != len(tt.texts) { // or it flickers
				t.Errorf("%d writes of %d texts", len(out), len(tt.texts))
			}
		})
	}
	if err := NewScreen(broken{}, Terminal{}).Draw("one"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// writes are the texts that were written, each at once.
type writes []string

func (w *writes) Write(text []byte) (int, error) {
	*w = append(*w, string(text))
	return len(text), nil
}
