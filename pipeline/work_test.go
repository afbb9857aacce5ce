package pipeline_test

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// Each line is emitted, an unfinished one when the step ends, and passed to the readers.
func TestLines(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var read []string
	r.mustRun(ends{"s": pipeline.Done}, &plain{id: "s", do: func(_ context.Context, w *pipeline.Work) error {
		l := w.Lines(func(line string) { read = append(read, line) })
		_, err := io.WriteString(l, "a\r\n\nlast words")
		return err
	}})
	var texts []string
	for _, l := range emitted[pipeline.Line](r.sink, "s") {
		texts = append(texts, l.Text)
	}
	want := []string{"a", "", "last words"}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("emitted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
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
	for _, l := range emitted[pipeline.Line](r.sink, "s") {
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
		if diff := cmp.Diff([]pipeline.Line{{Text: "CUDA error"}}, emitted[pipeline.Line](r.sink, "s")); diff != "" {
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
	var payloads []pipeline.Payload
	var later []string
	w := pipeline.NewWork(dir, pipeline.Inputs{out("a", "x"): {Path: "/p", Digest: "d"}},
		func(p pipeline.Payload) { payloads = append(payloads, p) },
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
	if diff := cmp.Diff([]pipeline.Payload{pipeline.Warning{Text: "w"}}, payloads); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"remove"}, later); diff != "" {
		t.Errorf("undos (-want +got):\n%s", diff)
	}
}
