package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

// Golden: other programs read the JSON form. A change that breaks them needs another EventVersion.
func TestEventJSON(t *testing.T) {
	t.Parallel()
	fault := pipeline.Faultf(pipeline.ContainerFailed, "see its log", "trtexec exited with status %d", 1)
	for name, c := range map[string]struct {
		step    pipeline.ID
		payload pipeline.Payload
		want    string
	}{
		"run started": {
			"",
			pipeline.RunStarted{Steps: []pipeline.ID{"a", "b"}, Facts: map[string]string{"lane": "cpu"}},
			`"kind":"run.started","data":{"steps":["a","b"],"facts":{"lane":"cpu"}}`,
		},
		"run started without facts": {"", pipeline.RunStarted{Steps: []pipeline.ID{"a"}}, `"kind":"run.started","data":{"steps":["a"]}`},
		"cached":                    {"a", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillReuse}}, `"step":"a","kind":"step.decided","data":{"kind":"cached"}`},
		"present":                   {"a", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.IsPresent}}, `"step":"a","kind":"step.decided","data":{"kind":"present"}`},
		"runs":                      {"a", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.AlwaysRuns}}, `"step":"a","kind":"step.decided","data":{"kind":"runs"}`},
		"not needed":                {"a", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.NotNeeded}}, `"step":"a","kind":"step.decided","data":{"kind":"not needed"}`},
		"will run": {
			"a",
			pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{{Fact: "argv", Was: "1", Is: "2"}, {Fact: "it was asked for"}}}},
			`"step":"a","kind":"step.decided","data":{"kind":"will run","because":[{"fact":"argv","was":"1","is":"2"},{"fact":"it was asked for"}]}`,
		},
		"depends": {
			"a",
			pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.Depends, Pending: []pipeline.ID{"b"}}},
			`"step":"a","kind":"step.decided","data":{"kind":"depends on","pending":["b"]}`,
		},
		"started":  {"a", pipeline.Started{}, `"step":"a","kind":"step.started","data":{}`},
		"line":     {"a", pipeline.Line{Text: "50 % <ü>\x1b"}, `"step":"a","kind":"step.line","data":{"text":"50 % \u003cü\u003e\u001b"}`},
		"progress": {"a", pipeline.Progress{Text: "pull", Current: 1, Total: 2, Unit: "B"}, `"step":"a","kind":"step.progress","data":{"text":"pull","current":1,"total":2,"unit":"B"}`},
		"progress of unknown length": {
			"a", pipeline.Progress{Text: "pull"}, `"step":"a","kind":"step.progress","data":{"text":"pull","current":0}`,
		},
		"warning": {"", pipeline.Warning{Text: "random weights"}, `"kind":"warning","data":{"text":"random weights"}`},
		"result":  {"a", pipeline.Result{Name: "time_to_ready", Value: 1.5}, `"step":"a","kind":"step.result","data":{"name":"time_to_ready","value":1.5}`},
		"result with members": {
			"a",
			pipeline.Result{Name: "digests", Value: map[string]string{"x": "1"}},
			`"step":"a","kind":"step.result","data":{"name":"digests","value":{"x":"1"}}`,
		},
		"done": {
			"a",
			pipeline.Ended{State: pipeline.Done, Elapsed: 1500 * time.Millisecond, Digests: map[string]string{"x": "1"}},
			`"step":"a","kind":"step.ended","data":{"state":"done","digests":{"x":"1"},"seconds":1.5}`,
		},
		"end cached":    {"a", pipeline.Ended{State: pipeline.Cached}, `"step":"a","kind":"step.ended","data":{"state":"cached","seconds":0}`},
		"end skipped":   {"a", pipeline.Ended{State: pipeline.Skipped, Reason: "r"}, `"step":"a","kind":"step.ended","data":{"state":"skipped","reason":"r","seconds":0}`},
		"end cancelled": {"a", pipeline.Ended{State: pipeline.Cancelled, Elapsed: time.Second}, `"step":"a","kind":"step.ended","data":{"state":"cancelled","seconds":1}`},
		"end failed": {
			"a",
			pipeline.Ended{State: pipeline.Failed, Elapsed: time.Second, Err: fault},
			`"step":"a","kind":"step.ended","data":{"state":"failed","seconds":1,"error":"trtexec exited with status 1"}`,
		},
		"run ended": {"", pipeline.RunEnded{Elapsed: 2 * time.Second}, `"kind":"run.ended","data":{"seconds":2}`},
		"run failed": {
			"",
			pipeline.RunEnded{Elapsed: 2 * time.Second, Err: &pipeline.StepError{Step: "a", Err: fault}},
			`"kind":"run.ended","data":{"seconds":2,"error":"a: trtexec exited with status 1"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
			got, err := json.Marshal(pipeline.Event{Run: "r1", Time: at, Step: c.step, Payload: c.payload})
			if err != nil {
				t.Fatal(err)
			}
			want := `{"v":2,"run":"r1","time":"2026-01-02T03:04:05.6Z",` + c.want + `}`
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsSayWhoseTurnItIs(t *testing.T) {
	t.Parallel()
	var err error = &pipeline.StepError{Step: "serve", Elapsed: time.Second, Err: pipeline.Faultf(pipeline.NotReady, "look at its log", "the server exited: %w", errBroken)}
	if got, want := err.Error(), "serve: the server exited: out of memory"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != pipeline.NotReady || fault.Hint != "look at its log" || !errors.Is(err, errBroken) {
		t.Errorf("got %+v", fault)
	}
	r := newRig(t)
	got, ok := errors.AsType[*pipeline.Fault](r.run(t.Context(), &plain{id: "s", do: func(context.Context, *pipeline.Work) error { return fault }}))
	if !ok || got != fault {
		t.Errorf("a run that fails with %v returns %v", fault, got)
	}
}
