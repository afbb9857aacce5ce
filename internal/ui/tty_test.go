package ui

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// screen is what a terminal would show after text, which may move only as tty does. It fails on anything else.
func screen(t *testing.T, text string) string {
	t.Helper()
	var lines [][]rune
	row, col := []rune{}, 0
	for text != "" {
		switch {
		case strings.HasPrefix(text, ansi.EraseLineRight):
			row, text = row[:col], text[len(ansi.EraseLineRight):]
			continue
		case text[0] == '\r':
			col, text = 0, text[1:]
			continue
		case text[0] == '\n':
			lines, row, col, text = append(lines, row), nil, 0, text[1:]
			continue
		case text[0] == '\x1b':
			m := regexp.MustCompile(`^\x1b\[[0-9;]*m`).FindString(text)
			if m == "" {
				t.Fatalf("an escape sequence that is not ours: %.20q", text)
			}
			text = text[len(m):]
			continue
		}
		r := []rune(text)[0]
		if r < 0x20 || r == 0x7f {
			t.Fatalf("a control character: %.20q", text)
		}
		row = append(row[:col], r)
		col++
		text = text[len(string(r)):]
	}
	var b strings.Builder
	for _, l := range append(lines, row) {
		b.WriteString(string(l) + "\n")
	}
	return b.String()
}

// play shows the events on a terminal of a width, one frame after each, and returns the screen after each and all output.
func play(t *testing.T, o Options, events []timedEvent) (frames []string, raw string) {
	t.Helper()
	var buf, all bytes.Buffer
	v := newTTY(&buf, o)
	for _, e := range events {
		v.draw(e.event())
		v.refresh(began.Add(e.after + frame))
		all.Write(buf.Bytes())
		buf.Reset()
		frames = append(frames, screen(t, all.String()))
	}
	v.end()
	all.Write(buf.Bytes())
	return append(frames, screen(t, all.String())), all.String()
}

// changed returns the lines of a screen from the first that differs.
func changed(before, after string) string {
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return strings.Join(b[i:], "")
		}
	}
	return ""
}

func TestTTY(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"tty.txt":         {},
		"tty-verbose.txt": {Verbose: true},
		"tty-narrow.txt":  {Terminal: Terminal{Width: func() int { return 30 }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Terminal.IsTTY, o.Terminal.Term, o.Terminal.NoColor = true, "xterm", true
			frames, _ := play(t, o, story())
			var b strings.Builder
			last := ""
			for i, f := range frames {
				what := "closed"
				if i < len(story()) {
					what = "after " + story()[i].after.String()
				}
				if d := changed(last, f); d != "" {
					fmt.Fprintf(&b, "--- %s\n%s", what, d)
				}
				last = f
			}
			fmt.Fprintf(&b, "--- left on the screen\n%s", last)
			golden(t, name, b.String())
		})
	}
}

// The line moves by itself while nothing is told, and nothing of it is left after Close, not even of a run that did not end.
func TestTTYMovesByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r, err := New(TTY, &out, Options{Terminal: Terminal{IsTTY: true, Term: "xterm", NoColor: true}})
		if err != nil {
			t.Fatal(err)
		}
		r.Emit(pipeline.Event{Time: time.Now(), Step: "serve", Payload: pipeline.Started{}})
		time.Sleep(3*time.Second + frame/2)
		synctest.Wait()
		if got := screen(t, out.String()); !strings.HasSuffix(got, " serve 3s\n") {
			t.Errorf("after 3 s: %q", got)
		}
		if n := strings.Count(out.String(), "serve"); n < 29 || n > 31 {
			t.Errorf("%d frames in 3 s", n)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got := screen(t, out.String()); got != "\n" {
			t.Errorf("left on the screen: %q", got)
		}
	})
}

func TestTTYColour(t *testing.T) {
	t.Parallel()
	_, raw := play(t, Options{Terminal: Terminal{IsTTY: true, Term: "xterm"}}, story())
	golden(t, "tty-colour.txt", strings.ReplaceAll(strconv.Quote(raw), `\n`, "\\n\n")+"\n")
}

// No line that is drawn again is as wide as the terminal, whatever is in it.
func TestTTYFits(t *testing.T) {
	t.Parallel()
	for width := range 40 {
		o := Options{Terminal: Terminal{IsTTY: true, Term: "xterm", Width: func() int { return width + 2 }}}
		v := newTTY(&bytes.Buffer{}, o)
		for i := range 3 {
			id := pipeline.ID(fmt.Sprintf("schritt-模型-%d", i))
			v.draw(timedEvent{0, id, pipeline.Started{}}.event())
			v.draw(timedEvent{0, id, pipeline.Progress{Text: "画像を引く", Current: 5, Total: 9}}.event())
		}
		if got := ansi.StringWidth(v.line(began)); got > width+1 {
			t.Errorf("a status line of %d columns on %d", got, width+2)
		}
	}
}

func TestProgressOnlyGoesUp(t *testing.T) {
	t.Parallel()
	var g gauge
	var shown []string
	for _, p := range []pipeline.Progress{
		{Current: 50, Total: 100},
		{Current: 60, Total: 1000},
		{Current: 10, Total: 1000},
		{Current: 990, Total: 1000},
		{Current: 2000, Total: 1000},
		{Current: 0, Total: 0},
	} {
		p.Text, p.Unit = "pulling", "B"
		g.set(p)
		g.set(pipeline.Progress{Text: "another layer", Current: 1, Total: 100})
		g.set(p)
		shown = append(shown, g.String())
	}
	want := []string{
		"pulling 50 B of 100 B", "pulling 60 B of 1000 B", "pulling 60 B of 1000 B",
		"pulling 990 B of 1000 B", "pulling 1000 B of 1000 B", "pulling 1000 B of 1000 B",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What is shown of progress is what was told, in whatever unit.
func TestGauge(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]pipeline.Progress{
		"pulling 114.4 MiB of 1.118 GiB": {Text: "pulling", Current: 120e6, Total: 1200e6, Unit: "B"},
		"downloading 3 MiB":              {Text: "downloading", Current: 3 << 20, Unit: "B"},
		"pulling 0 B of 1 GiB":           {Text: "pulling", Total: 1 << 30, Unit: "B"},
		"layers 3 of 20":                 {Text: "layers", Current: 3, Total: 20},
		"5 pictures of 9 pictures":       {Current: 5, Total: 9, Unit: "pictures"},
		"loading dali":                   {Text: "loading dali"},
		"":                               {},
	} {
		var g gauge
		g.set(p)
		if got := g.String(); got != want {
			t.Errorf("%+v: got %q, want %q", p, got, want)
		}
	}
}

func TestTook(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 240 * time.Millisecond: "0.2s", 4200 * time.Millisecond: "4.2s", 41400 * time.Millisecond: "41s",
		59700 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s", 3725 * time.Second: "1h02m",
	} {
		if got := elapsed(d); got != want {
			t.Errorf("took(%s) = %q, want %q", d, got, want)
		}
	}
}
