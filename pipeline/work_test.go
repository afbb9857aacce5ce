package pipeline_test

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// lines returns what a step tells that writes to one Lines writer.
func lines(t *testing.T, writes ...string) []string {
	t.Helper()
	r := newRig(t)
	r.mustRun(ends{"s": pipeline.Done}, &plain{id: "s", do: func(_ context.Context, w *pipeline.Work) error {
		l := w.Lines()
		for _, text := range writes {
			if n, err := io.WriteString(l, text); n != len(text) || err != nil {
				t.Errorf("write %q: got %d, %v", text, n, err)
			}
		}
		return nil
	}})
	var got []string
	for _, l := range of[pipeline.Line](r.sink, "s") {
		got = append(got, l.Text)
	}
	return got
}

func TestLines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ writes, want []string }{
		"nothing":         {nil, nil},
		"empty write":     {[]string{""}, nil},
		"one":             {[]string{"a\n"}, []string{"a"}},
		"many at once":    {[]string{"a\nb\n\nc\n"}, []string{"a", "b", "", "c"}},
		"in pieces":       {[]string{"a", "b", "\nc", "\n"}, []string{"ab", "c"}},
		"unfinished":      {[]string{"a\nlast words"}, []string{"a", "last words"}},
		"windows":         {[]string{"a\r\nb\r", "\n", "\r\n"}, []string{"a", "b", ""}},
		"progress bar":    {[]string{"10%\r", "20%\r\n"}, []string{"10%\r20%"}},
		"unfinished bar":  {[]string{"10%\r"}, []string{"10%"}},
		"split letter":    {[]string{"\xc3", "\xbc\n"}, []string{"ü"}},
		"escape sequence": {[]string{"\x1b[31mred\x1b[0m\n"}, []string{"\x1b[31mred\x1b[0m"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, lines(t, c.writes...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A process without line breaks is told of in pieces, and nothing of it is lost or torn.
func TestEndlessLine(t *testing.T) {
	t.Parallel()
	const most = 64 << 10
	for name, text := range map[string]string{
		"letters of one byte":    strings.Repeat("x", 5*most+7),
		"letters of three bytes": strings.Repeat("模", most) + "\nend",
		"off by one":             "a" + strings.Repeat("é", most),
		"just as long":           strings.Repeat("x", most) + "\nend",
		"no text":                strings.Repeat("\xff", 2*most),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1000, most, len(text)} {
				var writes []string
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					writes = append(writes, rest[:n])
					rest = rest[n:]
				}
				got := lines(t, writes...)
				if joined := strings.Join(got, ""); joined != strings.ReplaceAll(text, "\n", "") {
					t.Errorf("written by %d: something is lost: %d bytes became %d", size, len(text), len(joined))
				}
				for i, l := range got {
					if utf8.ValidString(text) && !utf8.ValidString(l) {
						t.Errorf("written by %d: line %d tears a letter", size, i)
					}
					if size < most && len(l) > most+size {
						t.Errorf("written by %d: line %d has %d bytes", size, i, len(l))
					}
				}
				if size < most && len(got) < len(text)/(most+size) {
					t.Errorf("written by %d: %d bytes were held back for %d lines", size, len(text), len(got))
				}
			}
		})
	}
}

func TestWritersDoNotMix(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const writers, each = 4, 100
	r.mustRun(ends{"s": pipeline.Done}, &plain{id: "s", do: func(_ context.Context, w *pipeline.Work) error {
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				l := w.Lines()
				for range each {
					for _, part := range []string{"w", strconv.Itoa(i), "\n"} {
						_, _ = io.WriteString(l, part)
					}
				}
			})
		}
		all.Wait()
		return nil
	}})
	count := map[string]int{}
	for _, l := range of[pipeline.Line](r.sink, "s") {
		count[l.Text]++
	}
	if diff := cmp.Diff(map[string]int{"w0": each, "w1": each, "w2": each, "w3": each}, count); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// The last words of a step that fails are told before its end, like those of one that ends well.
func TestLastLineOfAFailure(t *testing.T) {
	t.Parallel()
	for _, step := range []pipeline.Step{
		&plain{id: "s", do: cry},
		&builder{plain: plain{id: "s", do: cry}},
	} {
		r := newRig(t)
		wantStepError(t, r.run(t.Context(), step), "s", errBroken) // which checks that the end is the last event
		if diff := cmp.Diff([]pipeline.Line{{Text: "CUDA error"}}, of[pipeline.Line](r.sink, "s")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func cry(_ context.Context, w *pipeline.Work) error {
	_, _ = io.WriteString(w.Lines(), "CUDA error")
	return errBroken
}

func TestWorkAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told []pipeline.Payload
	var later []string
	w := pipeline.NewWork(dir, pipeline.Inputs{out("a", "x"): {Path: "/p", Digest: "d"}},
		func(p pipeline.Payload) { told = append(told, p) },
		func(name string, _ func(context.Context) error) { later = append(later, name) })
	if got := w.Path("model.plan"); got != filepath.Join(dir, "model.plan") {
		t.Errorf("path: got %s", got)
	}
	if got := w.Input(out("a", "x")); got != (pipeline.Value{Path: "/p", Digest: "d"}) {
		t.Errorf("input: got %v", got)
	}
	w.Emit(pipeline.Warning{Text: "w"})
	w.Defer("remove", nil)
	w.Set("url", pipeline.Value{Ref: "1"})
	before := w.Values()
	w.Set("url", pipeline.Value{Ref: "2"})
	if diff := cmp.Diff(pipeline.Values{"url": {Ref: "1"}}, before); diff != "" {
		t.Errorf("values that were read change later (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pipeline.Values{"url": {Ref: "2"}}, w.Values()); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]pipeline.Payload{pipeline.Warning{Text: "w"}}, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"remove"}, later); diff != "" {
		t.Errorf("undos (-want +got):\n%s", diff)
	}
}
