package tune_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tune"
)

// The start is among the values of each knob, wherever it lies, and no value is one that a run would refuse.
func TestKnobs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target target.Target
		asked  target.Serving
		want   []string // values, the start in brackets
	}{
		"gpu": {target.Target{Lane: target.GPU, OptBatch: 64, MaxBatch: 256, Precision: "fp16"}, target.Serving{}, []string{
			"dali-instances 1 [2] 3 4 6 8", "dali-threads 1 2 3 [4] 6 8", "preferred-batch 8 16 32 [64] 128 256",
			"hw-decoder-load 0.5 0.65 0.8 [0.9] 1",
		}},
		"gpu, asked for": {target.Target{Lane: target.GPU, OptBatch: 1, MaxBatch: 32, Precision: "fp16"}, target.Serving{DALIInstances: 12, HWDecoderLoad: 0.7}, []string{
			"dali-instances 1 2 3 4 6 8 [12]", "dali-threads 1 2 3 [4] 6 8", "preferred-batch [] 8 16 32",
			"hw-decoder-load 0.5 0.65 [0.7] 0.8 0.9 1",
		}},
		"cpu": {target.Target{Lane: target.CPU, MaxBatch: 4}, target.Serving{}, []string{
			"dali-threads 1 2 4 []", "preferred-batch [] 2 4", "dali-instances [1] 2", "classifier-instances [1] 2",
		}},
		"cpu, asked for": {target.Target{Lane: target.CPU, MaxBatch: 256}, target.Serving{DALIThreads: 3}, []string{
			"dali-threads 1 2 [3] 4 8", "preferred-batch [] 2 4 8", "dali-instances [1] 2", "classifier-instances [1] 2",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.target.Serving = target.DecideServing(c.asked, c.target, 8)
			var got []string
			for _, k := range tune.Knobs(c.target, 8) {
				values := append([]string{}, k.Values...)
				values[k.Start] = "[" + values[k.Start] + "]"
				got = append(got, k.Key+" "+strings.Join(values, " "))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What comes out is YAML, with the proof as its comments.
func TestResult(t *testing.T) {
	t.Parallel()
	figures := func(rate float64) tune.Figures {
		return tune.Figures{PicturesPerSecond: rate, P50Seconds: 1 / rate, P99Seconds: 2 / rate}
	}
	proof := tune.Trial{
		Candidate: tune.Setting{"dali-threads": "1"}, Gain: 0.25, Least: 0.11, Verdict: tune.Better,
		Pairs: make([]tune.Pair, 8),
	}
	for i := range proof.Pairs {
		proof.Pairs[i] = tune.Pair{Candidate: figures(25), Against: figures(20)}
	}
	failed := tune.Trial{Candidate: tune.Setting{"dali-instances": "2"}, Verdict: tune.Failed, Why: "no memory: 1|2\nat all"}
	r := tune.Result{
		Lane: "cpu", Load: tune.NewLoad(tune.Throughput, "ensemble", target.CPU, 1),
		Serving: map[string]string{"dali-threads": "1"}, Outcome: tune.Outcome{
			Best: proof.Candidate, Proof: &proof, Trials: []tune.Trial{proof, failed},
		},
	}
	var b strings.Builder
	if err := r.WriteText(&b, "serving:\n  dali-threads: 1\n"); err != nil {
		t.Fatal(err)
	}
	want := `serving:
  dali-threads: 1
# dali-threads=1 is better than the start: 25.0 % (at least 11.0 %) more pictures/s
# throughput: closed loop, 8 requests at a time of one picture, 0.5 s a measurement, cpu lane
#
# | candidate | against | pairs | pictures/s | p50 ms | p99 ms | gain | at least | verdict |
# | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
# | dali-threads=1 | the start | 8 | 25, 20 | 40, 50 | 80, 100 | 25.0 % | 11.0 % | better |
# | dali-instances=2 | the start | 0 |  |  |  |  |  | failed: no memory: 1/2 at all |
# | proof: dali-threads=1 | the start | 8 | 25, 20 | 40, 50 | 80, 100 | 25.0 % | 11.0 % | better |
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
