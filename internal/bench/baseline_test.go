package bench_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bench"
)

func environment() bench.Environment {
	return bench.Environment{GPU: "NVIDIA H100 80GB HBM3", Driver: "580.95.05", Image: "sha256:1", Lane: "gpu", Model: "ensemble", Pictures: "sha256:2"}
}

// runs are measurements of one load, each with that many pictures a second.
func runs(rates ...float64) [][]bench.Measurement {
	var out [][]bench.Measurement
	for _, rate := range rates {
		m := h100()
		m.PicturesPerSecond = rate
		m.Latency.P99Seconds = 0.1
		out = append(out, []bench.Measurement{m})
	}
	return out
}

func baseline(t *testing.T, rates ...float64) bench.Baseline {
	t.Helper()
	b, err := bench.NewBaseline("1.2.3", time.Unix(1_795_000_000, 0), environment(), runs(rates...))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := b.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	read, err := bench.ReadBaseline(text.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, read); diff != "" {
		t.Errorf("what was read differs from what was written:\n%s", diff)
	}
	return read
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		was, now []float64
		verdict  bench.Verdict
		worse    float64
	}{
		"the same":              {[]float64{1000}, []float64{1000}, bench.Held, 0},
		"better":                {[]float64{1000}, []float64{1200, 1300, 1100}, bench.Held, -0.2},
		"within":                {[]float64{1000}, []float64{951, 952, 953}, bench.Held, 0.048},
		"one run":               {[]float64{1000}, []float64{900}, bench.Suspected, 0.1},
		"four runs":             {[]float64{1000}, []float64{900, 800, 900, 800}, bench.Suspected, 0.15},
		"five runs":             {[]float64{1000}, []float64{900, 800, 990, 800, 990}, bench.Confirmed, 0.1},
		"one was as good":       {[]float64{1000}, []float64{900, 800, 1000, 800, 990}, bench.Unconfirmed, 0.1},
		"the baseline strays":   {[]float64{1000, 850, 1100}, []float64{900, 890, 880, 870, 860}, bench.Unconfirmed, 0.12},
		"worse than all of it":  {[]float64{1000, 950, 1100}, []float64{900, 890, 880, 870, 860}, bench.Confirmed, 0.12},
		"the median of an even": {[]float64{1000, 2000}, []float64{900, 900, 900, 900, 900}, bench.Confirmed, 0.4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := bench.Compare(baseline(t, test.was...), environment(), runs(test.now...), 0.05)
			if err != nil {
				t.Fatal(err)
			}
			got := all[0]
			if len(all) != 4 || got.Figure != bench.PicturesPerSecond || got.Verdict != test.verdict || !about(got.Worse, test.worse, 1e-9) {
				t.Errorf("%+v; want %s, worse by %v", got, test.verdict, test.worse)
			}
			if worst := bench.Worst(all); worst != test.verdict {
				t.Errorf("worst %s; want %s", worst, test.verdict)
			}
		})
	}
}

// What strays by itself is hardly ever taken for slower, and what is slower by more than it strays hardly ever is not.
func TestCompareStraying(t *testing.T) {
	t.Parallel()
	draw := rand.New(rand.NewPCG(5, 5))
	straying := func(mean, by float64) []float64 {
		var rates []float64
		for range bench.RunsToConfirm {
			rates = append(rates, mean*math.Exp(by*draw.NormFloat64()))
		}
		return rates
	}
	const trials = 1000
	confirmed := func(by, mean float64) int {
		n := 0
		for range trials {
			b, err := bench.NewBaseline("", time.Time{}, environment(), runs(straying(1000, by)...))
			if err != nil {
				t.Fatal(err)
			}
			all, err := bench.Compare(b, environment(), runs(straying(mean, by)...), 0.05)
			if err != nil {
				t.Fatal(err)
			}
			if all[0].Verdict == bench.Confirmed {
				n++
			}
		}
		return n
	}
	if n := confirmed(0.15, 1000); n > trials/100 {
		t.Errorf("%d of %d that only stray were confirmed", n, trials)
	}
	if n := confirmed(0.03, 850); n < trials*95/100 {
		t.Errorf("%d of %d that are slower by 15 %% were confirmed", n, trials)
	}
}

// Latencies are worse when they are longer, and answers when they are fewer.
func TestCompareFigures(t *testing.T) {
	t.Parallel()
	b := baseline(t, 1000)
	now := runs(1000, 1000, 1000, 1000, 1000)
	for i := range now {
		now[i][0].Latency.P99Seconds = 0.2
		now[i][0].Answered, now[i][0].Failed = 7140, 793
		now[i][0].Latency.P50Seconds = 0.0155
	}
	all, err := bench.Compare(b, environment(), now, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	got := map[bench.Figure]bench.Verdict{}
	for _, c := range all {
		got[c.Figure] = c.Verdict
	}
	want := map[bench.Figure]bench.Verdict{
		bench.PicturesPerSecond: bench.Held, bench.P50Seconds: bench.Held, bench.P99Seconds: bench.Confirmed, bench.AnsweredShare: bench.Confirmed,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Measurements of another machine, image or load are not compared.
func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	b := baseline(t, 1000)
	other := environment()
	other.GPU, other.Driver, other.Image, other.Lane = "", "570", "sha256:3", "cpu"
	other.Server = "elsewhere:8001"
	now := runs(1000)
	now[0][0].Load.Concurrency = 16
	_, err := bench.Compare(b, other, now, 0.05)
	mismatch, ok := errors.AsType[*bench.Mismatch](err)
	want := []string{
		"gpu: NVIDIA H100 80GB HBM3 → not known", "driver: 580.95.05 → 570", "image: sha256:1 → sha256:3", "lane: gpu → cpu",
		"server: not known → elsewhere:8001",
		"the baseline has no closed loop, 16 requests at a time, batch 1, 0 connections",
	}
	if !ok || !slices.Equal(mismatch.Differences, want) {
		t.Errorf("error %v; want a mismatch of %q", err, want)
	}
	interrupted := runs(1000)
	interrupted[0][0].Interrupted = true
	silent := runs(1000)
	silent[0][0].Answered = 0
	cold := runs(1000)
	cold[0][0].WarmupFailed = "it was late"
	for want, now := range map[string][][]bench.Measurement{
		"was interrupted": interrupted, "no request was answered in time": silent, "no measurement to compare": nil,
		"of a server that is not warm": cold,
	} {
		if _, err := bench.Compare(b, environment(), now, 0.05); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
	if _, err := bench.Compare(b, environment(), runs(1000), -1); err == nil {
		t.Error("a regression of less than nothing is no error")
	}
	damaged := func(figure, values string) string {
		figures := map[string]string{"pictures_per_second": "[9]", "p50_seconds": "[0.1]", "p99_seconds": "[0.2]", "answered_share": "[1]"}
		figures[figure] = values
		var all []string
		for name, values := range figures {
			all = append(all, `"`+name+`": `+values)
		}
		return `{"version": 1, "levels": [{"load": {"concurrency": 1}, "figures": {` + strings.Join(all, ", ") + "}}]}"
	}
	if _, err := bench.ReadBaseline([]byte(damaged("p50_seconds", "[604800, 1e-9]"))); err != nil {
		t.Errorf("figures that can be measured: %v", err)
	}
	const of = " of closed loop, 1 request at a time, batch 0, 0 connections is "
	for text, want := range map[string]string{
		damaged("pictures_per_second", "[9, 1e300]"):               "it is damaged: pictures_per_second" + of + "1e+300, not above 0 and at most 1e+09",
		damaged("pictures_per_second", "[-1]"):                     "it is damaged: pictures_per_second" + of + "-1,",
		damaged("p50_seconds", "[0, 1]"):                           "it is damaged: p50_seconds" + of + "0, not above 0 and at most 604800",
		damaged("p99_seconds", "[1e6]"):                            "it is damaged: p99_seconds" + of + "1e+06,",
		damaged("answered_share", "[1.01]"):                        "it is damaged: answered_share" + of + "1.01, not above 0 and at most 1",
		damaged("answered_share", "[null]"):                        "it is damaged: answered_share" + of + "0,",
		damaged("p50_seconds", "[1e400]"):                          "it is no baseline: json: cannot unmarshal number 1e400",
		damaged("p50_seconds", "[NaN]"):                            "it is no baseline: invalid character 'N'",
		"not json":                                                 "it is no baseline",
		`{"version": 9}`:                                           "it is version 9 of a baseline",
		`{"version": 1, "levels": [{"load": {"concurrency": 1}}]}`: "it has no pictures_per_second of closed loop, 1 request at a time",
	} {
		if _, err := bench.ReadBaseline([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
}
