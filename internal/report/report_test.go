package report

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

var update = flag.Bool("update", false, "write the golden files")

var began = time.Date(2026, 8, 23, 10, 15, 0, 0, time.UTC)

type timedEvent struct {
	after   time.Duration
	step    pipeline.ID
	payload pipeline.Payload
}

func collect(c *Collector, events []timedEvent) Report {
	for _, e := range events {
		c.Emit(pipeline.Event{Run: "r1", Time: began.Add(e.after), Step: e.step, Payload: e.payload})
	}
	return c.Report()
}

const s = time.Second

// start opens a run of five steps on the cpu lane, of which two work at a time.
func start() []timedEvent {
	return []timedEvent{
		{0, "", pipeline.RunStarted{
			Steps: []pipeline.ID{"weights", "export-onnx", "serialize-dali", "serve", "verify"},
			Facts: map[string]string{FactLane: "cpu", FactReason: "asked for", FactImages: "local", FactPrecision: "fp32", FactWeights: "random:1"},
		}},
		{0, "", pipeline.Warning{Text: "the pretrained weights cannot be had; seeded ones are used"}},
		{0, "weights", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillReuse}}},
		{0, "weights", pipeline.Ended{State: pipeline.Cached}},
		{0, "export-onnx", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.Depends, Pending: []pipeline.ID{"exporter-image"}}}},
		{1 * s, "export-onnx", pipeline.Decided{Verdict: pipeline.Verdict{Kind: pipeline.WillRun, Because: []pipeline.Change{
			{Fact: "argv", Was: "--opset 13", Is: "--opset 17"},
		}}}},
		{1 * s, "export-onnx", pipeline.Started{}},
		{1 * s, "export-onnx", pipeline.Progress{Current: 1}},
		{1 * s, "export-onnx", pipeline.Line{Text: "x"}},
		{2 * s, "serialize-dali", pipeline.Started{}},
		{3 * s, "serialize-dali", pipeline.Ended{
			State: pipeline.Done, Elapsed: 900 * time.Millisecond, Digests: map[string]string{"model.dali": "sha256:aa"},
		}},
		{5200 * time.Millisecond, "export-onnx", pipeline.Ended{State: pipeline.Done, Elapsed: 4200 * time.Millisecond}},
		{6 * s, "serve", pipeline.Started{}},
	}
}

func comparisons(t *testing.T, wrong float32) parity.Report {
	t.Helper()
	want := []float32{0.5, -1, 2, 0.25}
	got := []float32{0.5, -1.001, 2.001, 0.25}
	var r parity.Report
	pre, model, ensemble := parity.Bounds(release.FP32)
	for _, c := range []struct {
		name  parity.Name
		bound parity.Bound
		add   float32
	}{{parity.Preprocessing, pre, wrong}, {parity.Model, model, 0}, {parity.Ensemble, ensemble, wrong}} {
		values := append([]float32{got[0] + c.add}, got[1:]...)
		one, err := parity.Check(c.name, values, want, c.bound)
		if err != nil {
			t.Fatal(err)
		}
		r.Comparisons = append(r.Comparisons, one)
	}
	return r
}

func engine() trtexec.Engine {
	return trtexec.Engine{
		TensorRT: "10.6.0.26", ReadBack: true, GPU: "NVIDIA H100 80GB HBM3", Bytes: 51_600_000, SHA256: "e3b0c442",
		Precision: trtexec.PrecisionProof{Requested: release.FP16, Half: 132, All: 134, By: trtexec.ProofTensors},
		Profile:   &trtexec.Profile{Input: "input", Min: []int64{1, 3, 224, 224}, Opt: []int64{64, 3, 224, 224}, Max: []int64{256, 3, 224, 224}},
	}
}

func passed(t *testing.T) Report {
	t.Helper()
	port := func(n uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), n) }
	return collect(&Collector{Program: "v1.2.3"}, append(start(), []timedEvent{
		{6 * s, "assemble-repository", result.Repository.New("/home/u/p/.dalirun/model_repository")},
		{6 * s, "build-engine", result.Engine.New(engine())},
		{7 * s, "serve", result.GPUs.New([]string{"GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-b2b10123)"})},
		{7 * s, "serve", result.Serving.New(result.Server{Container: "abc", Name: "dalirun-r1-serve", GRPC: port(8001), HTTP: port(8000), Metrics: port(8002)})},
		{8 * s, "serve", result.TimeToReady.New(1.9)},
		{8 * s, "serve", pipeline.Ended{State: pipeline.Done, Elapsed: 2 * s}},
		{8 * s, "verify", pipeline.Started{}},
		{9 * s, "verify", result.Parity.New(comparisons(t, 0))},
		{9 * s, "verify", result.Top.New([]result.Class{
			{Index: 967, Label: "espresso", Score: 12.5, Probability: 0.962673}, {Index: 968, Label: "cup", Score: 9.25, Probability: 0.037327},
		})},
		{9 * s, "verify", pipeline.Result{Name: "something else", Value: 1}},
		{9 * s, "verify", pipeline.Ended{State: pipeline.Done, Elapsed: s}},
		{10 * s, "", pipeline.RunEnded{Elapsed: 10 * s}},
	}...))
}

// failed is a run with everything that could break a format: markup, quotes, control characters, wide text.
func failed(t *testing.T) Report {
	t.Helper()
	const evil = "<script>alert('x')</script> & \"q\" ]]> \x1b[31m\x00 {{.}} \u202e模型"
	err := &pipeline.Fault{Kind: pipeline.NotVerified, Err: errors.New("not PyTorch's: " + evil), Hint: "look " + evil, Tail: []string{evil, "second"}}
	return collect(&Collector{ExitCode: func(error) int { return 6 }}, append(start(), []timedEvent{
		{6 * s, "serve", pipeline.Warning{Text: evil}},
		{6 * s, "serve", pipeline.Warning{Text: evil}},
		{8 * s, "serve", pipeline.Ended{State: pipeline.Cancelled, Elapsed: 2 * s}},
		{8 * s, "verify", pipeline.Started{}},
		{9 * s, "verify", result.Parity.New(comparisons(t, 3))},
		{9 * s, "verify", result.Top.New([]result.Class{{Index: 1, Label: evil, Score: 2, Probability: 0.84}})},
		{9 * s, "verify", result.TimeToReady.New(math.NaN())},
		{9 * s, "verify", pipeline.Ended{State: pipeline.Failed, Elapsed: s, Err: err, Digests: map[string]string{evil: evil}}},
		{10 * s, "", pipeline.RunEnded{Elapsed: 10 * s, Err: &pipeline.StepError{Step: "verify", Elapsed: s, Err: err}}},
	}...))
}

var formats = map[string]func(Report, io.Writer) error{
	"json": Report.WriteJSON, "txt": Report.WriteText, "xml": Report.WriteJUnit, "html": Report.WriteHTML,
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Report{"passed": passed(t), "failed": failed(t)} {
		for ext, write := range formats {
			t.Run(name+"."+ext, func(t *testing.T) {
				t.Parallel()
				var b bytes.Buffer
				if err := write(r, &b); err != nil {
					t.Fatal(err)
				}
				golden(t, name+"."+ext, b.String())
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenFile(t, filepath.Join("testdata", name), got)
}

// goldenFile compares a text with a file, or writes it.
func goldenFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
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

// What comes from outside stays text in every format.
func TestEscapes(t *testing.T) {
	t.Parallel()
	r := failed(t)
	out := map[string]string{}
	for ext, write := range formats {
		var b bytes.Buffer
		if err := write(r, &b); err != nil {
			t.Fatal(err)
		}
		out[ext] = b.String()
		if ext != "json" && strings.ContainsAny(out[ext], "\x1b\x00") {
			t.Errorf("%s has a control character", ext)
		}
	}
	if tags := regexp.MustCompile(`(?i)<(script|/script)`).FindString(out["html"]); tags != "" {
		t.Errorf("the page has %s", tags)
	}
	if !strings.Contains(out["html"], "&lt;script&gt;") {
		t.Error("the page lost the text")
	}
	d := xml.NewDecoder(strings.NewReader(out["xml"]))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("JUnit is not XML: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "script" {
			t.Error("JUnit has a script element")
		}
	}
	var back Report
	d2 := json.NewDecoder(strings.NewReader(out["json"]))
	d2.DisallowUnknownFields()
	if err := d2.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("the report does not survive JSON (-want +got):\n%s", diff)
	}
	if _, err := d2.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("more than one JSON value: %v", err)
	}
}

func TestJUnitCounts(t *testing.T) {
	t.Parallel()
	type suite struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
	}
	undo := collect(&Collector{}, append(start(), timedEvent{9 * s, "", pipeline.RunEnded{Err: errors.New("remove container: gone")}}))
	for name, c := range map[string]struct {
		report Report
		want   []suite
	}{
		"passed":            {passed(t), []suite{{"steps", 5, 0, 0, 0}, {"parity", 3, 0, 0, 0}}},
		"failed":            {failed(t), []suite{{"steps", 5, 1, 0, 1}, {"parity", 3, 2, 0, 0}}},
		"failed in no step": {undo, []suite{{"steps", 6, 0, 1, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := c.report.WriteJUnit(&b); err != nil {
				t.Fatal(err)
			}
			var got struct {
				suite
				Suites []suite `xml:"testsuite"`
			}
			if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Suites, cmp.AllowUnexported(suite{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	signal := errors.New("interrupted")
	code := func(err error) int {
		if errors.Is(err, signal) {
			return 130
		}
		return 4
	}
	step := &pipeline.StepError{Step: "serve", Err: errors.New("x")}
	for name, c := range map[string]struct {
		err     error
		code    func(error) int
		verdict Verdict
		exit    int
	}{
		"fine":                  {nil, code, Passed, 0},
		"step":                  {step, code, Failed, 4},
		"no table of codes":     {step, nil, Failed, 1},
		"signal":                {signal, code, Cancelled, 130},
		"signal and undo":       {errors.Join(signal, errors.New("remove: gone")), code, Cancelled, 130},
		"cancelled":             {fmt.Errorf("run: %w", context.Canceled), nil, Cancelled, 1},
		"step, others cut off":  {errors.Join(step, context.Canceled), code, Failed, 4},
		"error outside a step":  {errors.New("undo"), code, Failed, 4},
		"step and cancellation": {errors.Join(context.Canceled, step), nil, Failed, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := collect(&Collector{ExitCode: c.code}, []timedEvent{{0, "", pipeline.RunStarted{}}, {s, "", pipeline.RunEnded{Elapsed: s, Err: c.err}}})
			if r.Verdict != c.verdict || r.ExitCode != c.exit {
				t.Errorf("got %s, %d, want %s, %d", r.Verdict, r.ExitCode, c.verdict, c.exit)
			}
		})
	}
}

func TestUnfinished(t *testing.T) {
	t.Parallel()
	r := collect(&Collector{}, start())
	if r.Verdict != Failed || r.Error == "" || r.ExitCode != 1 {
		t.Errorf("got %s, %q, %d", r.Verdict, r.Error, r.ExitCode)
	}
	got := map[pipeline.ID]pipeline.EndState{}
	for _, s := range r.Steps {
		got[s.ID] = s.State
	}
	want := map[pipeline.ID]pipeline.EndState{
		"weights": pipeline.Cached, "export-onnx": pipeline.Done, "serialize-dali": pipeline.Done, "serve": pipeline.Cancelled, "verify": pipeline.Skipped,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if zero := (&Collector{}).Report(); zero.Verdict != Failed || zero.Warnings == nil || zero.Steps == nil {
		t.Errorf("of no event at all: %+v", zero)
	}
}

func TestUnknownForms(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{
		"top": "text", "parity": []int{1}, "time_to_ready": "soon", "gpus": "one", "repository": 1, "engine": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := collect(&Collector{}, []timedEvent{{0, "verify", pipeline.Result{Name: name, Value: value}}})
			if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], name) {
				t.Errorf("warnings: %q", r.Warnings)
			}
			for ext, write := range formats { // and each form can still be written
				if err := write(r, io.Discard); err != nil {
					t.Errorf("%s: %v", ext, err)
				}
			}
		})
	}
}

func TestConcurrentEmit(t *testing.T) {
	t.Parallel()
	c := &Collector{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				c.Emit(pipeline.Event{Step: pipeline.ID(fmt.Sprint("step-", j%10)), Payload: pipeline.Started{}})
				c.Emit(pipeline.Event{Payload: pipeline.Warning{Text: strconv.Itoa(i)}})
				if j%50 == 0 {
					c.Report()
				}
			}
		})
	}
	wg.Wait()
	if r := c.Report(); len(r.Steps) != 10 || len(r.Warnings) != 8 {
		t.Errorf("got %d steps and %d warnings", len(r.Steps), len(r.Warnings))
	}
}

// A run has failed once its end says so.
func TestCollectorFailed(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("x")} {
		var c Collector
		collect(&c, start())
		if c.Failed() {
			t.Error("it failed before its end")
		}
		c.Emit(pipeline.Event{Payload: pipeline.RunEnded{Err: err}})
		if c.Failed() != (err != nil) {
			t.Errorf("it ended with %v", err)
		}
	}
}

// A run that did not begin has a report all the same.
func TestCollectorNotBegun(t *testing.T) {
	t.Parallel()
	var c Collector
	r := c.NotBegun(pipeline.Usagef("use a flag", "x"), began)
	if r.Verdict != Failed || r.Error != "x" || r.Hint != "use a flag" || !r.Started.Equal(began) || len(r.Steps) > 0 || r.ExitCode != 1 {
		t.Errorf("%+v", r)
	}
}

// broken is a writer that takes so many bytes.
type broken int

func (b *broken) Write(p []byte) (int, error) {
	if len(p) > int(*b) {
		return 0, io.ErrShortWrite
	}
	*b -= broken(len(p))
	return len(p), nil
}

// Each form says so if it could not be written whole.
func TestShortWrite(t *testing.T) {
	t.Parallel()
	for ext, write := range formats {
		var b bytes.Buffer
		if err := write(passed(t), &b); err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{0, b.Len() - 1} {
			room := broken(room)
			if err := write(passed(t), &room); !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("%s: %v", ext, err)
			}
		}
	}
	full := broken(0)
	if err := NewPlan(ngc(), nil, Facts(ngc(), ""), steps()).WriteText(&full); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a plan: %v", err)
	}
}

// A time has as many digits as matter.
func TestSeconds(t *testing.T) {
	t.Parallel()
	for s, want := range map[float64]string{
		0.004: "0.00 s", 0.24: "0.24 s", 1: "1.0 s", 9.94: "9.9 s", 9.96: "10 s", 119.4: "119 s", 119.6: "2 min 0 s", 125: "2 min 5 s", 3725.4: "62 min 5 s",
	} {
		if got := seconds(s); got != want {
			t.Errorf("%v: got %q, want %q", s, got, want)
		}
	}
}

// An answer with what is no number says so, and how many of them there are.
func TestNotFinite(t *testing.T) {
	t.Parallel()
	report := passed(t)
	report.Parity.Comparisons[0].OK = false
	report.Parity.Comparisons[0].Figures.NonFinite = 3
	for _, ext := range []string{"txt", "xml", "html"} {
		var b bytes.Buffer
		if err := formats[ext](report, &b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "3 values not finite (at most none)") {
			t.Errorf("%s does not say so:\n%s", ext, b.String())
		}
	}
}
