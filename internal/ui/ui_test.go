package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

func TestStory(t *testing.T) {
	t.Parallel()
	github := Terminal{CI: true, GitHubActions: true}
	colour := Terminal{IsTTY: true, Term: "xterm-256color"}
	for _, c := range []struct {
		file string
		mode Mode
		o    Options
	}{
		{"plain.txt", Plain, Options{}},
		{"plain-verbose.txt", Plain, Options{Verbose: true}},
		{"plain-colour.txt", Plain, Options{Terminal: colour, Location: time.FixedZone("CEST", 2*3600)}},
		{"github.txt", Auto, Options{Terminal: github}},
		{"json.txt", JSON, Options{}},
		{"quiet.txt", Quiet, Options{}},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { golden(t, c.file, timely(t, c.mode, c.o, story())) })
		})
	}
}

// timely returns what a renderer shows of events that each come at their time, in a synctest bubble.
func timely(t *testing.T, mode Mode, o Options, events []timedEvent) string {
	t.Helper()
	time.Sleep(time.Until(began))
	var out bytes.Buffer
	r, err := New(mode, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		time.Sleep(time.Until(e.event().Time))
		r.Emit(e.event())
		synctest.Wait()
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPlainProgress checks that plain says of each step at most every 5 s how far it is, and that the last word does not get lost: it stands
// there while the step works on in silence. An H100's trtexec parses for a moment and times kernels for a minute.
func TestPlainProgress(t *testing.T) {
	t.Parallel()
	const s = time.Second
	progress := func(after time.Duration, id pipeline.ID, text string) timedEvent {
		return timedEvent{after, id, pipeline.Progress{Text: text}}
	}
	end := timedEvent{90 * s, "build-engine", pipeline.Ended{State: pipeline.Done, Elapsed: 90 * s}}
	for name, c := range map[string]struct {
		events []timedEvent
		want   []string
	}{
		"then silence": {[]timedEvent{
			progress(6500*time.Millisecond, "build-engine", "parsing the model"),
			progress(6600*time.Millisecond, "build-engine", "timing kernels"),
			end,
		}, []string{"10:15:06 INFO build-engine: parsing the model", "10:15:12 INFO build-engine: timing kernels", "10:16:30 INFO build-engine: done in 1m30s"}},
		"soon after the start": {
			[]timedEvent{progress(s, "build-engine", "loading TensorRT"), end},
			[]string{"10:15:05 INFO build-engine: loading TensorRT", "10:16:30 INFO build-engine: done in 1m30s"},
		},
		"the last of several": {[]timedEvent{
			progress(6*s, "build-engine", "1"), progress(7*s, "build-engine", "2"), progress(8*s, "build-engine", "3"), progress(12*s, "build-engine", "4"), end,
		}, []string{"10:15:06 INFO build-engine: 1", "10:15:11 INFO build-engine: 3", "10:15:16 INFO build-engine: 4", "10:16:30 INFO build-engine: done in 1m30s"}},
		"each step by itself": {[]timedEvent{
			progress(6*s, "build-engine", "parsing"), progress(6500*time.Millisecond, "build-engine", "timing"),
			progress(7*s, "server-image", "pulling"), progress(9*s, "server-image", "unpacking"), end,
		}, []string{
			"10:15:06 INFO build-engine: parsing", "10:15:07 INFO server-image: pulling", "10:15:11 INFO build-engine: timing",
			"10:15:12 INFO server-image: unpacking", "10:16:30 INFO build-engine: done in 1m30s",
		}},
		"the step ended": {[]timedEvent{
			progress(6*s, "build-engine", "parsing"), progress(7*s, "build-engine", "timing"),
			{8 * s, "build-engine", pipeline.Ended{State: pipeline.Done, Elapsed: 8 * s}},
			{20 * s, "serve", pipeline.Warning{Text: "later"}},
		}, []string{"10:15:06 INFO build-engine: parsing", "10:15:08 INFO build-engine: done in 8.0s", "10:15:20 WARN serve: later"}},
		"a step that starts again": {[]timedEvent{
			progress(s, "build-engine", "looking"), {2 * s, "build-engine", pipeline.Started{}}, {20 * s, "serve", pipeline.Warning{Text: "later"}},
		}, []string{"10:15:02 INFO build-engine: started", "10:15:20 WARN serve: later"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				first := []timedEvent{{0, "build-engine", pipeline.Started{}}, {0, "server-image", pipeline.Started{}}}
				got := strings.Split(strings.TrimSuffix(timely(t, Plain, Options{}, append(first, c.events...)), "\n"), "\n")
				want := append([]string{"10:15:00 INFO build-engine: started", "10:15:00 INFO server-image: started"}, c.want...)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

// A run that is closed shows nothing more, whatever was due, and quiet shows no progress at all.
func TestProgressThatIsNotShown(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Plain, Quiet} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			r, err := New(mode, &out, Options{})
			if err != nil {
				t.Fatal(err)
			}
			r.Emit(pipeline.Event{Time: time.Now(), Step: "build-engine", Payload: pipeline.Progress{Text: "timing"}})
			if mode == Quiet {
				time.Sleep(time.Minute)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if out.Len() > 0 {
				t.Errorf("%s: got %q", mode, out.String())
			}
		})
	}
}

func TestAuto(t *testing.T) {
	t.Parallel()
	ok := Terminal{IsTTY: true, Term: "xterm"}
	for name, c := range map[string]struct {
		mode   Mode
		change func(*Terminal)
		tty    bool
		fails  bool
	}{
		"terminal":            {Auto, func(*Terminal) {}, true, false},
		"terminal, no colour": {Auto, func(x *Terminal) { x.NoColor = true }, true, false},
		"pipe":                {Auto, func(x *Terminal) { x.IsTTY = false }, false, false},
		"dumb":                {Auto, func(x *Terminal) { x.Term = "dumb" }, false, false},
		"CI":                  {Auto, func(x *Terminal) { x.CI = true }, false, false},
		"GitHub":              {Auto, func(x *Terminal) { x.GitHubActions = true }, false, false},
		"tty in CI":           {TTY, func(x *Terminal) { x.CI = true }, true, false},
		"tty on a pipe":       {TTY, func(x *Terminal) { x.IsTTY = false }, false, true},
		"tty on dumb":         {TTY, func(x *Terminal) { x.Term = "dumb" }, false, true},
		"unknown":             {"fancy", func(*Terminal) {}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := ok
			c.change(&term)
			r, err := New(c.mode, io.Discard, Options{Terminal: term})
			if c.fails {
				f, is := errors.AsType[*pipeline.Fault](err)
				if !is || f.Kind != pipeline.Usage || f.Hint == "" {
					t.Fatalf("got %v, want a usage fault with a hint", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}()
			if _, tty := r.(*queue).view.(*tty); tty != c.tty {
				t.Errorf("is a live terminal: %v, want %v", tty, c.tty)
			}
		})
	}
}

// NO_COLOR means no escape sequence that colours, in every mode and in errors.
func TestNoColor(t *testing.T) {
	t.Parallel()
	term := Terminal{IsTTY: true, Term: "xterm", NoColor: true}
	for _, mode := range []Mode{TTY, Plain, Quiet} {
		var out bytes.Buffer
		r, err := New(mode, &out, Options{Terminal: term, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range story() {
			r.Emit(e.event())
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		Error(&out, errors.New("x"), term, nil)
		if rest := strings.ReplaceAll(out.String(), "\x1b[K", ""); strings.Contains(rest, "\x1b") {
			t.Errorf("%s: has an escape sequence: %q", mode, rest)
		}
	}
}

// An event reads as it was told, with no escapes for pages in HTML, also where the payload is its own marshaler.
func TestJSONIsPlain(t *testing.T) {
	t.Parallel()
	text := string(line(pipeline.Event{Run: "r1", Time: began, Payload: pipeline.RunEnded{Err: errors.New("a <b> && c")}}))
	if !strings.Contains(text, `"error":"a <b> && c"`) {
		t.Errorf("the event is %s", text)
	}
}

func TestJSONIsWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r, err := New(JSON, &out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := timedEvent{0, "verify", pipeline.Result{Name: "parity", Value: math.NaN()}}.event()
	r.Emit(e)
	for _, e := range story() {
		r.Emit(e.event())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.Emit(e) // after Close: dropped
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 1+len(story()) {
		t.Fatalf("got %d lines, want %d", len(lines), 1+len(story()))
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("not JSON: %s", l)
		}
	}
	if !strings.Contains(lines[0], `"kind":"warning"`) || !strings.Contains(lines[0], "NaN") {
		t.Errorf("a result that has no JSON form is not told of: %s", lines[0])
	}
}

func TestConcurrentEmit(t *testing.T) {
	t.Parallel()
	const each, many = 200, 8
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		var out bytes.Buffer
		r, err := New(mode, &out, Options{Terminal: Terminal{IsTTY: true, Term: "xterm"}, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		logs := NewLogSink(t.TempDir())
		both := Tee(r, logs)
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				for range each {
					both.Emit(timedEvent{0, "serve", pipeline.Warning{Text: "needle"}}.event())
					both.Emit(timedEvent{0, "serve", pipeline.Progress{Current: 1}}.event())
					both.Emit(timedEvent{0, "serve", pipeline.Line{Text: "line"}}.event())
				}
			})
		}
		wg.Wait()
		if err := errors.Join(r.Close(), logs.Close()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), "needle"); got != each*many {
			t.Errorf("%s: %d warnings, want %d", mode, got, each*many)
		}
	}
}

// stuck is an output that takes nothing until it is let go.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func TestStuckOutputHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := stuck{make(chan struct{})}
		r, err := New(Plain, out, Options{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 1000 {
			r.Emit(timedEvent{0, "serve", pipeline.Warning{Text: "x"}}.event())
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Emit waited %s", d)
		}
		if err := r.Close(); err == nil || !strings.Contains(err.Error(), "took nothing") {
			t.Errorf("Close returned %v", err)
		}
		if d := time.Since(start); d != closing {
			t.Errorf("Close waited %s, want %s", d, closing)
		}
		close(out.release)
	})
}

func TestSlowOutputDropsLinesAlone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	gate := gated{make(chan struct{}), make(chan struct{}), &out}
	r, err := New(JSON, gate, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Emit(timedEvent{0, "serve", pipeline.Started{}}.event())
	<-gate.entered // the output has the first event and holds on
	for range most + 7 {
		r.Emit(timedEvent{0, "serve", pipeline.Line{Text: "x"}}.event())
	}
	r.Emit(timedEvent{0, "serve", pipeline.Warning{Text: "kept"}}.event())
	close(gate.release)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if n := strings.Count(got, "step.line"); n != most {
		t.Errorf("%d lines are shown, want %d", n, most)
	}
	if !strings.Contains(got, `"kept"`) || !strings.Contains(got, "7 lines and progress reports are not shown") {
		t.Errorf("got … %s", got[len(got)-500:])
	}
}

// gated is an output whose first write waits for release.
type gated struct {
	entered, release chan struct{}
	out              io.Writer
}

func (g gated) Write(p []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	case <-g.release:
	}
	<-g.release
	return g.out.Write(p)
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestCloseReturnsWriteError(t *testing.T) {
	t.Parallel()
	r, err := New(JSON, broken{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Emit(timedEvent{0, "serve", pipeline.Started{}}.event())
	if err := r.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if err := r.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the second Close returned %v", err)
	}
}

func TestGroupKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r, err := New(Plain, &out, Options{Terminal: Terminal{GitHubActions: true}})
	if err != nil {
		t.Fatal(err)
	}
	for range kept + 3 {
		r.Emit(timedEvent{0, "serve", pipeline.Line{Text: "early"}}.event())
	}
	r.Emit(timedEvent{0, "serve", pipeline.Line{Text: "last"}}.event())
	if err := r.Close(); err != nil { // the step did not end
		t.Fatal(err)
	}
	got := out.String()
	if !strings.HasPrefix(got, "::group::output of serve (did not end)\n| … 4 earlier lines") || !strings.HasSuffix(got, "| last\n::endgroup::\n") {
		t.Errorf("got %.120q … %q", got, got[len(got)-40:])
	}
}

func BenchmarkEmit(b *testing.B) {
	for _, mode := range []Mode{TTY, Plain, JSON, Quiet} {
		b.Run(string(mode), func(b *testing.B) {
			r, err := New(mode, io.Discard, Options{Terminal: Terminal{IsTTY: true, Term: "xterm"}})
			if err != nil {
				b.Fatal(err)
			}
			e := timedEvent{0, "serve", pipeline.Line{Text: "I0823 10:15:00.000000 1 server.cc:676] a line of the usual length"}}.event()
			b.ReportAllocs()
			for b.Loop() {
				r.Emit(e)
			}
			b.StopTimer()
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("logs", func(b *testing.B) {
		l := NewLogSink(b.TempDir())
		e := timedEvent{0, "serve", pipeline.Line{Text: "I0823 10:15:00.000000 1 server.cc:676] a line of the usual length"}}.event()
		b.ReportAllocs()
		for b.Loop() {
			l.Emit(e)
		}
		b.StopTimer()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	})
}

// A reason stands behind what it is for, and the sentence of a first run at the end.
func TestFacts(t *testing.T) {
	t.Parallel()
	for want, values := range map[string]map[string]string{
		"": {},
		"images ngc, lane cpu (asked for), server image: a/b:1; first run: it makes each result; the next one reuses what still holds": {
			"lane_reason": "asked for", "lane": "cpu", "images": "ngc", "server_image": "a/b:1", "release": "",
			"first_run": "it makes each result; the next one reuses what still holds",
		},
		"lane reason: x":           {"lane_reason": "x"},
		"first run: it makes both": {"first_run": "it makes both"},
	} {
		if got := facts(values); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// Of a run that is part of another one, warnings alone are handed on.
func TestWarningsOnly(t *testing.T) {
	t.Parallel()
	var got []pipeline.Event
	s := WarningsOnly(sinkFunc(func(e pipeline.Event) { got = append(got, e) }))
	warning := pipeline.Event{Run: "r1", Payload: pipeline.Warning{Text: "hot"}}
	for _, e := range []pipeline.Event{{Run: "r1", Payload: pipeline.Line{Text: "a line"}}, warning, {Run: "r1", Payload: pipeline.RunEnded{}}} {
		s.Emit(e)
	}
	if len(got) != 1 || got[0] != warning {
		t.Errorf("%+v", got)
	}
}

type sinkFunc func(pipeline.Event)

func (f sinkFunc) Emit(e pipeline.Event) { f(e) }
