package pipeline_test

import (
	"testing"

	"github.com/dalirun/dalirun/pipeline"
)

func TestListsThatCannotRun(t *testing.T) {
	t.Parallel()
	a := &plain{id: "a", outs: []string{"x"}}
	for name, c := range map[string]struct {
		steps []pipeline.Step
		want  string
	}{
		"empty":         {nil, "the list of steps is empty"},
		"no ID":         {[]pipeline.Step{&plain{}}, "a step of type *pipeline_test.plain has no ID"},
		"twice":         {[]pipeline.Step{a, &plain{id: "a"}}, "step a is listed twice"},
		"unknown step":  {[]pipeline.Step{a, &plain{id: "b", in: []pipeline.Output{out("c", "x")}}}, "step b reads c/x, which no earlier step makes"},
		"unknown name":  {[]pipeline.Step{a, &plain{id: "b", in: []pipeline.Output{out("a", "y")}}}, "step b reads a/y, which no earlier step makes"},
		"wrong order":   {[]pipeline.Step{&plain{id: "b", in: []pipeline.Output{out("a", "x")}}, a}, "step b reads a/x, which no earlier step makes"},
		"itself":        {[]pipeline.Step{&plain{id: "b", in: []pipeline.Output{out("b", "x")}, outs: []string{"x"}}}, "step b reads b/x, which no earlier step makes"},
		"another's":     {[]pipeline.Step{a, &thief{plain{id: "b"}}}, "step b claims the output a/x"},
		"an output two": {[]pipeline.Step{&plain{id: "b", outs: []string{"x", "x"}}}, "step b makes b/x twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.runner.Sink = r.sink
			if err := r.runner.Run(t.Context(), c.steps); err == nil || err.Error() != c.want {
				t.Errorf("run: got %v, want %s", err, c.want)
			}
			if len(r.sink.events) > 0 {
				t.Errorf("a list that cannot run told of %v", r.sink.events)
			}
			if _, err := r.runner.Plan(t.Context(), c.steps); err == nil || err.Error() != c.want {
				t.Errorf("plan: got %v, want %s", err, c.want)
			}
		})
	}
}

// thief claims another step's output.
type thief struct{ plain }

func (*thief) Outputs() []pipeline.Output { return []pipeline.Output{out("a", "x")} }
