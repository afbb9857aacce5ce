package ui

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

var update = flag.Bool("update", false, "write the golden files")

var began = time.Date(2026, 8, 23, 10, 15, 0, 0, time.UTC)

// timedEvent is an event at a time after the run's start.
type timedEvent struct {
	after   time.Duration
	step    pipeline.ID
	payload pipeline.Payload
}

func (t timedEvent) event() pipeline.Event {
	return pipeline.Event{Run: "r1", Time: began.Add(t.after), Step: t.step, Payload: t.payload}
}

// story is a run with every kind of event, two steps at a time, hostile output and a failure.
func story() []timedEvent {
	const s = time.Second
	fault := &pipeline.StepError{Step: "build-engine", Elapsed: 41 * s, Err: &pipeline.Fault{
		Kind: pipeline.ContainerFailed, Err: errors.New("trtexec exited with status 1"),
		Tail:   []string{"[E] Could not find any implementation for node …"},
		Repeat: "docker run --rm example trtexec",
		Hint:   "the image's TensorRT needs a newer driver",
	}}
	return []timedEvent{
		{0, "", pipeline.RunStarted{
			Steps: []pipeline.ID{"server-image", "weights", "export-onnx", "build-engine", "serialize-dali", "serve"},
			Facts: map[string]string{"lane": "gpu", "images": "ngc", "weights": "random:1", "release": ""},
		}},
		{0, "weights", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillReuse}}},
		{0, "weights", pipeline.Ended{State: pipeline.Cached}},
		{0, "weights", pipeline.Warning{Text: "the weights are random: labels mean nothing"}},
		{0, "server-image", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{{Fact: "no local image"}}}}},
		{0, "server-image", pipeline.Started{}},
		{s / 2, "server-image", pipeline.Progress{Text: "pulling", Current: 100e6, Total: 200e6, Unit: "B"}},
		{s, "export-onnx", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{
			{Fact: "argv", Was: "--opset 13", Is: "--opset 17"}, {Fact: "script", Is: "abcdefghijkl"},
		}}}},
		{s, "export-onnx", pipeline.Started{}},
		{2 * s, "export-onnx", pipeline.Line{Text: "\x1b[31mloading\x1b[0m\rloaded  100%\x07"}},
		{2 * s, "server-image", pipeline.Progress{Text: "pulling", Current: 120e6, Total: 1200e6, Unit: "B"}},
		{3 * s, "export-onnx", pipeline.Line{Text: "::set-output name=x::y"}},
		{3 * s, "export-onnx", pipeline.Line{Text: "##[error]not ours"}},
		{5200 * time.Millisecond, "export-onnx", pipeline.Ended{State: pipeline.Done, Elapsed: 4200 * time.Millisecond}},
		{6 * s, "server-image", pipeline.Progress{Text: "pulling", Current: 1100e6, Total: 1200e6, Unit: "B"}},
		{7 * s, "server-image", pipeline.Progress{Text: "pulling", Current: 90e6, Total: 1200e6, Unit: "B"}},
		{8 * s, "server-image", pipeline.Ended{State: pipeline.Done, Elapsed: 8 * s}},
		{8 * s, "build-engine", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.Depends, Pending: []pipeline.ID{"server-image"}}}},
		{8 * s, "build-engine", pipeline.Started{}},
		{9 * s, "build-engine", pipeline.Result{Name: "precision", Value: "fp16"}},
		{49 * s, "build-engine", pipeline.Line{Text: "[E] Could not find any implementation for node …"}},
		{49 * s, "build-engine", pipeline.Ended{State: pipeline.Failed, Elapsed: 41 * s, Err: fault.Err}},
		{49 * s, "serialize-dali", pipeline.Ended{State: pipeline.Cancelled, Elapsed: 3 * s}},
		{49 * s, "serve", pipeline.Ended{State: pipeline.Skipped, Reason: "the run ended before it"}},
		{49 * s, "", pipeline.RunEnded{Elapsed: 49 * s, Err: fault}},
	}
}

// golden compares got with testdata/name, or writes it there.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); -update writes it:\n%s", path, diff)
	}
}
