package record_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// made makes a record and reads it.
func made(t *testing.T, fill func(*record.Writer)) *record.Record {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r"+record.Suffix)
	w := create(t, path)
	fill(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// refusal is the request of a run that a taken port refused.
func refusal(t *testing.T) (target.Request, *target.Answers, target.Target, []target.Obstacle) {
	t.Helper()
	request := target.Request{
		Command: "e2e", Accel: "cpu", Images: "local", Registry: "nvcr.io", Precision: release.FP16, MaxBatch: 8, ReadyTimeout: 1e9, GRPCPort: 8001,
		Weights: target.WeightsSource{Kind: target.Random}, GPUs: container.GPUs{Count: container.AllGPUs}, Workspace: "/home/maria/w/.dalirun",
		Settings: target.Settings{{Flag: "grpc-port", Value: "8001"}},
	}
	var answers target.Answers
	text := `{"runtime: is remote":{"value":false},"runtime: info":{"value":{"Version":"29.0"}},"host: 127.0.0.1:8001 is free":{"value":false},
		"host: user of 127.0.0.1:8001":{"value":" by nginx (pid 7)"},"runtime: containers with map[]":{"value":[]}}`
	if err := json.Unmarshal([]byte(text), &answers); err != nil {
		t.Fatal(err)
	}
	decided, obstacles, err := target.Resolve(t.Context(), request, target.Replay(&answers))
	if err != nil || target.Refusal(obstacles) == nil {
		t.Fatalf("%v, %v", obstacles, err)
	}
	var again target.Answers
	if err := json.Unmarshal([]byte(text), &again); err != nil {
		t.Fatal(err)
	}
	return request, &again, decided, obstacles
}

// What was decided is decided again from the answers; where that comes to something else, it says in which line.
func TestDecide(t *testing.T) {
	t.Parallel()
	request, answers, decided, obstacles := refusal(t)
	fill := func(change func()) *record.Record {
		return made(t, func(w *record.Writer) {
			w.AddJSON(record.AnswersFile, answers)
			w.AddJSON(record.ObstaclesFile, obstacles)
			if change != nil {
				change()
			}
			w.AddJSON(record.RequestFile, request)
			w.AddJSON(record.TargetFile, decided)
		})
	}
	r, err := fill(nil).Decide(t.Context())
	missing := slices.DeleteFunc(slices.Clone(r.Lines), func(line string) bool { return strings.HasPrefix(line, "this dalirun asks what that one did not") })
	if err != nil || len(missing) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = fill(func() { decided.MaxBatch, request.MaxBatch = 9, 10 }).Decide(t.Context())
	if err != nil || r.Reproduced || !slices.Contains(r.Lines, "target.json.max_batch: 9 → 10") {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = made(t, func(*record.Writer) {}).Decide(t.Context())
	if err != nil || r.Reproduced || !strings.Contains(r.Text(), "cannot be: the record has no ") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := made(t, func(w *record.Writer) {
		w.AddText(record.RequestFile, []byte("{"))
		w.AddText(record.AnswersFile, []byte("{"))
	}).Decide(t.Context()); err == nil {
		t.Error("a damaged record is no error")
	}
}

// answers are those of a server whose DALI is off by an offset.
func answers(offset float32) parity.Answers {
	const width = 224
	a := parity.Answers{Tensor: make([]float32, 3*width*width), WantTensor: make([]float32, 3*width*width)}
	for i := range a.Tensor {
		a.WantTensor[i] = float32((i*7919)%97)/30 - 1.5
		a.Tensor[i] = a.WantTensor[i] + offset
	}
	for i := range 1000 {
		a.Logits = append(a.Logits, float32(i%13)/3)
	}
	a.WantLogits, a.Ensemble = a.Logits, a.Logits
	return a
}

func keep(w *record.Writer, a parity.Answers, report parity.Report) {
	for name, values := range map[string][]float32{
		record.ServedTensor: a.Tensor, record.ServedLogits: a.Logits, record.ServedAnswer: a.Ensemble,
		record.ReferenceTensor: a.WantTensor, record.ReferenceLogits: a.WantLogits,
	} {
		w.AddBytes(name, record.EncodeFloats(values))
	}
	w.AddJSON(record.TargetFile, target.Target{Precision: release.FP16})
	emit(w, "verify", pipeline.Result{Name: "parity", Value: report})
}

// The verdict follows from the tensors, to the last digit; with other figures on record it does not.
func TestCompare(t *testing.T) {
	t.Parallel()
	a := answers(-0.4)
	report, err := parity.CheckAll(a, release.FP16)
	if err != nil {
		t.Fatal(err)
	}
	r, err := made(t, func(w *record.Writer) { keep(w, a, report) }).Compare()
	if err != nil || !r.Reproduced || r.Missing != "" || r.Parity.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	if diff := cmp.Diff(report, *r.Parity); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !slices.Contains(r.Lines, "preprocessing: the mean is another one: values are off by -0.400, -0.400, -0.400 for red, green, blue, in deviations") {
		t.Errorf("%q", r.Lines)
	}
	other := report
	other.Comparisons = slices.Clone(report.Comparisons)
	other.Comparisons[0].Figures.MeanAbs += 1e-15
	if r, err = made(t, func(w *record.Writer) { keep(w, a, other) }).Compare(); err != nil || r.Reproduced || !strings.HasPrefix(r.Text(), "arithmetic: not reproduced\n") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = made(t, func(*record.Writer) {}).Compare(); err != nil || r.Missing == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = made(t, func(w *record.Writer) {
		keep(w, a, report)
		w.AddBytes(record.ServedTensor, []byte{1})
	}).Compare(); err == nil {
		t.Error("a damaged tensor is no error")
	}
}

// What is known of an error may have become more since.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	fail := func(w *record.Writer, c cause.Cause) {
		w.AddJSON(record.FailureFile, cause.Failure{Text: "x", Kind: pipeline.Usage, ExitCode: 2})
		w.AddJSON(record.CauseFile, c)
	}
	r, err := made(t, func(w *record.Writer) { fail(w, cause.Cause{ID: "configuration"}) }).Diagnose()
	if err != nil || !r.Reproduced || r.Cause.Turn != cause.Product {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = made(t, func(w *record.Writer) { fail(w, cause.Cause{ID: "unknown", Turn: cause.Unknown, Text: "nothing"}) }).Diagnose()
	if err != nil || r.Reproduced || r.Lines[len(r.Lines)-1] != "dalirun 1.2.3 called it unknown (unknown): nothing" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = made(t, func(*record.Writer) {}).Diagnose(); err != nil || r.Missing == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Causes come before consequences, in a user's words, and what is the same is said too.
func TestDiff(t *testing.T) {
	t.Parallel()
	run := func(driver, image, precision, outcome string) *record.Record {
		return made(t, func(w *record.Writer) {
			w.AddJSON(record.AnswersFile, map[string]any{"host: gpus": map[string]any{"value": host.GPUs{Driver: driver, CUDA: "13.0", Devices: []host.GPU{{Name: "NVIDIA H100 80GB HBM3"}}}}})
			w.AddJSON(record.TargetFile, target.Target{Lane: target.GPU, Precision: release.Precision(precision)})
			w.AddJSON(record.RequestFile, target.Request{Settings: target.Settings{{Flag: "precision", Value: precision}}})
			w.AddBytes(record.PictureFile, []byte("picture"))
			w.AddText(record.EnvironmentFile, []byte("DALIRUN_PRECISION="+precision+"\nHTTP_PROXY=http://"+outcome+".example\nTERM="+outcome+"\n"))
			w.AddText(record.LockFile, []byte("# a lock\nversion 1\npackage server linux/amd64 numpy "+driver[2:3]+".26\npackage server linux/amd64 onnx 1\n"))
			emit(w, "", pipeline.RunStarted{Steps: []pipeline.ID{"server-image", "build-engine"}})
			emit(w, "server-image", pipeline.Ended{State: pipeline.Cached, Digests: map[string]string{"image": image}})
			emit(w, "build-engine", pipeline.Fingerprinted{Facts: pipeline.Facts{"driver": driver, "input server-image/image": image}})
			emit(w, "build-engine", pipeline.Ended{State: pipeline.Done, Digests: map[string]string{"model.plan": "sha256:" + outcome}})
			if outcome == "red" {
				w.AddJSON(record.FailureFile, cause.Failure{Text: "x", Kind: pipeline.NotReady, Step: "serve"})
			}
		})
	}
	reasons := func(_ pipeline.ID, was, is pipeline.Facts) []pipeline.Change {
		if cmp.Equal(was, is) {
			return nil
		}
		return []pipeline.Change{{Fact: "driver of the engine", Was: was["driver"], Is: is["driver"]}}
	}
	green, red := run("575.51", "sha256:0123456789abcdef", "fp16", "green"), run("580.159", "sha256:fedcba9876543210", "fp16", "red")
	var b bytes.Buffer
	if err := record.Diff(green, red, reasons).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `HTTP_PROXY: http://green.example → http://red.example
driver: 575.51 → 580.159
server image: 0123456789ab → fedcba987654
package server linux/amd64 numpy: 5.26 → 0.26
build-engine/model.plan: sha256:green → sha256:red
outcome: passed → failed
cause is new: server-fails (product): tritonserver ended, or does not answer as it should
same: command, --precision, picture, weights, precision, dalirun, system, CUDA of the driver, GPUs of the machine, lane, other packages
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Reset()
	if err := record.Diff(green, green, reasons).WriteText(&b); err != nil || !strings.HasPrefix(b.String(), "nothing that both records have differs\n") {
		t.Errorf("%v\n%s", err, &b)
	}
}
