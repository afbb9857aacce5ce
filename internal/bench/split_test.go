package bench_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/triton"
)

// Of a batch that requests shared, each counts the whole time, and the instances were busy once.
func TestSplitOf(t *testing.T) {
	t.Parallel()
	stat := func(count uint64, total time.Duration) triton.Stat { return triton.Stat{Count: count, Total: total} }
	counts := func(requests, executions uint64) triton.Statistics {
		const size = 8
		each := func(ms uint64) triton.Stat { return stat(requests, time.Duration(requests*ms)*time.Millisecond) }
		once := func(ms uint64) triton.Stat { return stat(executions, time.Duration(executions*ms)*time.Millisecond) }
		return triton.Statistics{
			Model: "dali", Version: "1", Inferences: requests, Executions: executions,
			Success: each(30), Fail: stat(requests/10, time.Second),
			Queue: each(9), ComputeInput: each(1),
			ComputeInfer: each(16), ComputeOutput: each(3),
			Batches: []triton.BatchStatistics{{
				Size: size, ComputeInput: once(1),
				ComputeInfer: once(16), ComputeOutput: once(3),
			}},
		}
	}
	start := time.Unix(1_795_000_000, 0)
	snapshot := func(after time.Duration, models ...triton.Statistics) bench.Snapshot {
		return bench.Snapshot{Taken: start.Add(after), Models: models}
	}
	models := []bench.Model{{Name: "dali", Instances: 4, BatchDelaySeconds: 0.0005}}
	got, err := bench.SplitOf(models, snapshot(0, counts(800, 100)), snapshot(2*time.Second, counts(3200, 400)))
	if err != nil {
		t.Fatal(err)
	}
	want := []bench.Split{{
		Model: "dali", Instances: 4, Requests: 2400, Failures: 240, Pictures: 2400, Executions: 300, AverageBatch: 8,
		RequestSeconds: 0.030, QueueSeconds: 0.009, InputSeconds: 0.001, ComputeSeconds: 0.016, OutputSeconds: 0.003,
		BatchDelaySeconds: 0.0005, Busy: 0.75, // 300 × 20 ms of 4 × 2 s
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return about(a, b, 1e-9) })); diff != "" {
		t.Error(diff)
	}

	for name, test := range map[string]struct {
		before, after bench.Snapshot
		want          string
	}{
		"loaded anew": {snapshot(0, counts(800, 100)), snapshot(time.Second, counts(8, 1)), "model dali was loaded anew while it was measured"},
		"gone":        {snapshot(0, counts(800, 100)), snapshot(time.Second), "the server has no statistics of model dali"},
		"no time":     {snapshot(0, counts(800, 100)), snapshot(0, counts(800, 100)), "the snapshots are 0s apart"},
	} {
		if _, err := bench.SplitOf(models, test.before, test.after); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v; want one with %q", name, err, test.want)
		}
	}
	idle, err := bench.SplitOf(models, snapshot(0, counts(8, 1)), snapshot(time.Second, counts(8, 1)))
	if err != nil || idle[0].Busy != 0 || idle[0].RequestSeconds != 0 || idle[0].AverageBatch != 0 {
		t.Errorf("idle: %+v, %v", idle, err)
	}

	loaded, err := bench.SinceLoad(models, snapshot(0, counts(2400, 300)))
	want[0].Busy = 0 // of a time that is not known
	if diff := cmp.Diff(want, loaded, cmp.Comparer(func(a, b float64) bool { return about(a, b, 1e-9) })); err != nil || diff != "" {
		t.Errorf("since it was loaded: %v\n%s", err, diff)
	}
	if _, err := bench.SinceLoad(models, snapshot(0)); err == nil {
		t.Error("a model without statistics is no error")
	}
}

func TestWarmupFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		models []bench.Model
		want   bench.Warmup
	}{
		"the H100's": {[]bench.Model{
			{Name: "ensemble", Ensemble: true, MaxBatch: 256, FullBatch: 256},
			{Name: "dali", Instances: 4, MaxBatch: 256, FullBatch: 64},
			{Name: "net", Instances: 2, MaxBatch: 256, FullBatch: 64},
		}, bench.Warmup{Requests: 16, Batch: 64, Concurrency: 4}},
		"one that takes less": {[]bench.Model{
			{Name: "ensemble", Ensemble: true, MaxBatch: 16, FullBatch: 16}, {Name: "dali", Instances: 1, MaxBatch: 256, FullBatch: 64},
		}, bench.Warmup{Requests: 4, Batch: 16, Concurrency: 1}},
		"on the CPU": {[]bench.Model{
			{Name: "ensemble", Ensemble: true, MaxBatch: 256, FullBatch: 256}, {Name: "dali", Instances: 1, MaxBatch: 256, FullBatch: 256, CPU: true},
		}, bench.Warmup{Requests: 4, Batch: 1, Concurrency: 1}},
		"no batches": {[]bench.Model{{Name: "m", Instances: 3, FullBatch: 1}}, bench.Warmup{Requests: 12, Batch: 1, Concurrency: 3}},
	} {
		if got := bench.WarmupFor(test.models); got != test.want {
			t.Errorf("%s: %+v; want %+v", name, got, test.want)
		}
	}
}
