package ui

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// A meter shows figures in one line, below what stays, and leaves the last ones.
func TestMeter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		terminal := Terminal{IsTTY: true, Term: "xterm", NoColor: true, Width: func() int { return 48 }}
		m := NewMeter(&out, terminal)
		began := time.Now()
		emit := func(p pipeline.Payload) { m.Emit(pipeline.Event{Time: time.Now(), Payload: p}) }
		emit(pipeline.Started{})
		emit(pipeline.Line{Text: "cpu\x1b[31m lane"})
		time.Sleep(2 * time.Second)
		emit(pipeline.Progress{Current: 30, Total: 200, Unit: "pictures", Text: "3 failed, and many more words than there is room for"})
		time.Sleep(2 * frame)
		synctest.Wait()
		shown := screen(t, out.String())
		if !strings.HasPrefix(shown, "cpu lane\n") || !strings.HasSuffix(shown, " 30 of 200 pictures in 2.2s, 13.6 a second, 3…\n") {
			t.Errorf("it shows %q", shown)
		}
		emit(pipeline.Warning{Text: "labels mean nothing"})
		emit(pipeline.Progress{Current: 200, Total: 200, Unit: "pictures"})
		time.Sleep(frame)
		emit(pipeline.RunEnded{Elapsed: time.Since(began)})
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		want := "cpu lane\nwarning: labels mean nothing\n200 of 200 pictures in 2.3s, 87.0 a second\n\n"
		if diff := cmp.Diff(want, screen(t, out.String())); diff != "" {
			t.Error(diff)
		}
	})
}

// Where a line cannot be drawn again, or is kept, there are lines and warnings alone.
func TestMeterWithoutFigures(t *testing.T) {
	t.Parallel()
	for _, terminal := range []Terminal{{}, {IsTTY: true, Term: "dumb"}, {IsTTY: true, CI: true}, {IsTTY: true, GitHubActions: true}} {
		var out bytes.Buffer
		m := NewMeter(&out, terminal)
		for _, p := range []pipeline.Payload{
			pipeline.Started{},
			pipeline.Line{Text: "cpu lane"},
			pipeline.Progress{Current: 1, Total: 2},
			pipeline.Warning{Text: "no"},
			pipeline.RunEnded{Elapsed: time.Second},
		} {
			m.Emit(pipeline.Event{Time: time.Now(), Payload: p})
		}
		if err := m.Close(); err != nil || out.String() != "cpu lane\nwarning: no\n" {
			t.Errorf("%+v: %v, %q", terminal, err, &out)
		}
	}
}
