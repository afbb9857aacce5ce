package bench_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/schematest"
)

var update = flag.Bool("update", false, "write the golden files and the schemas")

// result is one of everything that a result can have.
func result(t *testing.T) bench.Result {
	t.Helper()
	closed := h100()
	closed.Started = time.Unix(1_795_000_000, 0).UTC()
	closed.Load.Connections, closed.Load.DurationSeconds, closed.Load.TimeoutSeconds = 4, 1, 30
	closed.Load.Warmup = bench.Warmup{Requests: 16, Batch: 64, Concurrency: 4}
	closed.PicturesPerSecond, closed.Errors = 7933, []bench.Failure{}
	closed.Latency.P90Seconds, closed.Latency.P95Seconds = 0.044, 0.052
	closed.Latency.P99Seconds, closed.Latency.MaxSeconds = 0.089, 0.1404
	closed.Client.CPUPerRequestSeconds, closed.Client.CPUSeconds = 0.0000363, 0.288
	closed.Models[1].Executions, closed.Models[1].AverageBatch, closed.Models[1].Pictures = 124, 64, 7933
	closed.Limit = bench.FindLimit(closed)

	open := h100()
	open.Started, open.Interrupted, open.WindowSeconds = closed.Started, true, 12.3
	open.Load = bench.Load{
		Model: "ensemble", Rate: 20, MaxInFlight: 4, Seed: 1, Batch: 8, Connections: 1, DurationSeconds: 60, TimeoutSeconds: 2,
	}
	open.Requests, open.Answered, open.Failed, open.Abandoned, open.Skipped = 240, 230, 6, 4, 6
	open.AskedRate, open.AchievedRate, open.PicturesPerSecond = 20, 18.7, 149.6
	open.Latency = bench.Latency{Count: 234, Bounds: 4, MeanSeconds: 0.1, P50Seconds: 0.05, P90Seconds: 0.9, P95Seconds: 1.5, P99Seconds: 2, MaxSeconds: 2.01}
	open.Errors = []bench.Failure{
		{Class: "DeadlineExceeded", Count: 4, Example: "infer with model ensemble: no answer\x1b[2J"}, {Class: "Unavailable", Count: 2, Example: "connection refused"},
	}
	open.WarmupFailed = "no answer within 2s"
	open.Models, open.ModelsMissing = []bench.Split{}, "connection refused"
	open.Limit = bench.FindLimit(open)

	compared, err := bench.Compare(baseline(t, 8500), environment(), runs(7933), 0.05)
	if err != nil {
		t.Fatal(err)
	}
	return bench.Result{
		Version: bench.Version, Program: "1.2.3", Started: closed.Started, Server: "127.0.0.1:8001", Environment: environment(),
		Interrupted: true, Runs: [][]bench.Measurement{{closed, open}}, Findings: []string{"the pool is full"}, Comparisons: compared,
	}
}

// golden compares a text with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it:\n%s", name, diff)
	}
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := result(t).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/result.txt", text.Bytes())
}

// What is written is what the schemas in docs say, and these are what the types say.
func TestSchemas(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := result(t).WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/result.json", text.Bytes())
	schematest.Check[bench.Result](t, "../../docs/schemas/bench.schema.json", "What dalirun bench measured", words(), text.Bytes(), *update)
	text.Reset()
	if err := baseline(t, 1000, 1100).WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	schematest.Check[bench.Baseline](t, "../../docs/schemas/bench-baseline.schema.json", "Figures that later measurements of dalirun bench are compared with", words(), text.Bytes(), *update)
}

// checkSchema compares the schema of T with a file of docs, and an example with the schema.

// words are the types of strings that have few values.
func words() schematest.Words {
	w := schematest.Words{}
	schematest.Add(w, bench.LimitModel, bench.LimitClient, bench.LimitNetwork, bench.LimitNone, bench.LimitUnknown)
	schematest.Add(w, bench.PicturesPerSecond, bench.P50Seconds, bench.P99Seconds, bench.AnsweredShare)
	schematest.Add(w, bench.Held, bench.Suspected, bench.Unconfirmed, bench.Confirmed)
	return w
}
