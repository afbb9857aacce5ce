package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/chart"
	"github.com/dalirun/dalirun/pipeline"
)

// measured is what was measured of a load: figures that follow from its number, so that a point tells whose it is.
func measured(l bench.Load) bench.Measurement {
	n := l.Rate + float64(l.Concurrency)
	l.Model, l.Batch, l.Connections = "ensemble", max(1, l.Batch), 4
	return bench.Measurement{
		Load: l, WindowSeconds: 1, PicturesPerSecond: 10 * n * float64(l.Batch), AskedRate: l.Rate,
		Latency: bench.Latency{Count: 5, P50Seconds: n / 1000, P90Seconds: 2 * n / 1000, P99Seconds: 3 * n / 1000},
		Models:  []bench.Split{{Model: "ensemble", Ensemble: true}, {Model: "dali", Busy: n / 100}, {Model: "net", Busy: n / 200}},
		Limit:   bench.Limit{Stage: bench.LimitNone, Why: "more would get more"},
	}
}

func closedLoad(n int) bench.Load      { return bench.Load{Concurrency: n} }
func openLoad(rate float64) bench.Load { return bench.Load{Rate: rate, MaxInFlight: 8} }

func runOf(loads ...bench.Load) []bench.Measurement {
	var out []bench.Measurement
	for _, l := range loads {
		out = append(out, measured(l))
	}
	return out
}

func benchHTML(t *testing.T, r bench.Result, err error) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteBenchHTML(&b, r, err); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// chartTitles are the titles of a page's charts.
func chartTitles(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`<title id="chart\d+-title">([^<]*)</title>`).FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// Loads that differ in one number are charts; one that stands alone is a table only.
func TestCharts(t *testing.T) {
	t.Parallel()
	three := func(of string) []string {
		return []string{"Throughput (" + of + ")", "Latency (" + of + ")", "Busy instances (" + of + ")"}
	}
	cutShort := measured(closedLoad(8))
	cutShort.WindowSeconds = 0
	unexplained := runOf(closedLoad(1), closedLoad(8))
	for i := range unexplained {
		unexplained[i].Models = []bench.Split{}
	}
	for name, c := range map[string]struct {
		runs [][]bench.Measurement
		want []string
	}{
		"nothing":                      {nil, nil},
		"one load":                     {[][]bench.Measurement{runOf(closedLoad(8))}, nil},
		"one load, five times":         {slices.Repeat([][]bench.Measurement{runOf(closedLoad(8))}, 5), nil},
		"one of each loop":             {[][]bench.Measurement{runOf(closedLoad(8), openLoad(8))}, nil},
		"interrupted before it began":  {[][]bench.Measurement{{measured(closedLoad(1)), cutShort}}, nil},
		"closed":                       {[][]bench.Measurement{runOf(closedLoad(1), closedLoad(8))}, three("closed loop, batch 1")},
		"closed, five times":           {slices.Repeat([][]bench.Measurement{runOf(closedLoad(1), closedLoad(8))}, 5), three("closed loop, batch 1")},
		"open":                         {[][]bench.Measurement{runOf(openLoad(10), openLoad(20))}, three("open loop, batch 1")},
		"both":                         {[][]bench.Measurement{runOf(closedLoad(1), openLoad(10), closedLoad(8), openLoad(20))}, slices.Concat(three("closed loop, batch 1"), three("open loop, batch 1"))},
		"no account of the server's":   {[][]bench.Measurement{unexplained}, three("closed loop, batch 1")[:2]},
		"batches of closed loops":      {[][]bench.Measurement{runOf(bench.Load{Concurrency: 4, Batch: 8}, closedLoad(4))}, three("closed loop, 4 requests at a time")},
		"batches of open loops":        {[][]bench.Measurement{runOf(bench.Load{Rate: 2.5, Batch: 8}, openLoad(2.5), closedLoad(1))}, three("open loop, 2.5 requests/s")},
		"batches, one of them by mine": {[][]bench.Measurement{runOf(bench.Load{Concurrency: 4, Batch: 8}, closedLoad(1))}, nil},
	} {
		page := benchHTML(t, bench.Result{Runs: c.runs}, nil)
		if diff := cmp.Diff(c.want, chartTitles(page)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if has := strings.Contains(page, "<h2>Charts</h2>"); has != (c.want != nil) {
			t.Errorf("%s: there is a heading of charts: %v", name, has)
		}
		if says := strings.Contains(page, "median of the runs"); says != (c.want != nil && len(c.runs) > 1) {
			t.Errorf("%s: it speaks of medians: %v", name, says)
		}
	}
}

// figures are a chart's lines as numbers.
func figures(c chart.Chart) map[string]string {
	out := map[string]string{}
	for _, s := range c.Series {
		var text []string
		for _, p := range s.Points {
			text = append(text, fmt.Sprintf("%v:%.4g", p.X, p.Y))
		}
		out[s.Name] = strings.Join(text, " ")
	}
	return out
}

// The figures of charts are those that were measured, by their loads: of several runs the median, and none where
// nothing was answered or the server gave no account.
func TestFiguresOfCharts(t *testing.T) {
	t.Parallel()
	silent := measured(closedLoad(16))
	silent.PicturesPerSecond, silent.Latency, silent.Models = 0, bench.Latency{}, nil
	slow, fast := measured(closedLoad(8)), measured(closedLoad(8))
	slow.PicturesPerSecond, fast.PicturesPerSecond, fast.Models = 10, 90, nil
	for name, c := range map[string]struct {
		measured []bench.Measurement
		want     []map[string]string
	}{
		"closed, in any order": {append(runOf(closedLoad(64), closedLoad(1)), silent), []map[string]string{
			{"achieved": "1:10 16:0 64:640"},
			{"p50": "1:1 16:NaN 64:64", "p90": "1:2 16:NaN 64:128", "p99": "1:3 16:NaN 64:192"},
			{"dali": "1:1 16:NaN 64:64", "net": "1:0.5 16:NaN 64:32"},
		}},
		"open": {runOf(openLoad(10), openLoad(20.5)), []map[string]string{
			{"achieved": "10:100 20.5:205", "achieved = asked": "10:10 20.5:20.5"},
			{"p50": "10:10 20.5:20.5", "p90": "10:20 20.5:41", "p99": "10:30 20.5:61.5"},
			{"dali": "10:10 20.5:20.5", "net": "10:5 20.5:10.25"},
		}},
		"batches of open loops": {runOf(openLoad(10), bench.Load{Rate: 10, Batch: 4}), []map[string]string{
			{"achieved": "1:100 4:400", "achieved = asked": "1:10 4:40"},
			{"p50": "1:10 4:10", "p90": "1:20 4:20", "p99": "1:30 4:30"},
			{"dali": "1:10 4:10", "net": "1:5 4:5"},
		}},
		"three runs and two": {[]bench.Measurement{measured(closedLoad(1)), slow, measured(closedLoad(1)), fast, measured(closedLoad(8))}, []map[string]string{
			{"achieved": "1:10 8:80"},
			{"p50": "1:1 8:8", "p90": "1:2 8:16", "p99": "1:3 8:24"},
			{"dali": "1:1 8:8", "net": "1:0.5 8:4"},
		}},
		"two runs": {[]bench.Measurement{measured(closedLoad(1)), slow, fast}, []map[string]string{
			{"achieved": "1:10 8:50"},
			{"p50": "1:1 8:8", "p90": "1:2 8:16", "p99": "1:3 8:24"},
			{"dali": "1:1 8:8", "net": "1:0.5 8:4"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := sweeps(c.measured)
			if len(all) != 1 {
				t.Fatalf("%d sweeps", len(all))
			}
			var got []map[string]string
			for _, c := range all[0].charts() {
				got = append(got, figures(c))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A page says how the measuring ended, what the server's log explains, and what became of the baseline's figures.
func TestBenchHTML(t *testing.T) {
	t.Parallel()
	worse := pipeline.Usagef("save them with --save-baseline", "worse than the baseline")
	open := measured(openLoad(20))
	open.Failed, open.Skipped, open.Errors = 3, 4, []bench.Failure{{Class: "Unavailable", Count: 3, Example: "connection refused"}}
	open.Models, open.ModelsMissing, open.WarmupFailed = nil, "the server is gone", "4 <late>"
	r := bench.Result{
		Server: "127.0.0.1:8001", Environment: bench.Environment{Model: "ensemble", Lane: "cpu"}, Started: began,
		Runs: [][]bench.Measurement{{measured(closedLoad(1)), measured(closedLoad(8)), open}}, Findings: []string{"the pool is full"},
		Comparisons: []bench.Comparison{{Load: closedLoad(8), Figure: bench.P99Seconds, Baseline: 0.02, Measured: 0.024, Worse: 0.2, Verdict: bench.Confirmed}},
	}
	for name, c := range map[string]struct {
		interrupted bool
		err         error
		has, lacks  []string
	}{
		"passed":      {false, nil, []string{`<span class="passed">passed</span>`}, []string{"interrupted", "hint: "}},
		"failed":      {false, worse, []string{`<span class="failed">failed</span>`, `<p class="failed">worse than the baseline</p>`, "hint: save them with --save-baseline"}, []string{"interrupted"}},
		"interrupted": {true, context.Canceled, []string{`<span class="cancelled">cancelled</span>`, "interrupted"}, []string{"context canceled"}},
	} {
		r.Interrupted = c.interrupted
		page := benchHTML(t, r, c.err)
		for _, text := range append(c.has,
			"ensemble at 127.0.0.1:8001, cpu lane, from 2026-08-23 10:15:00 UTC on", "found in the server's log: the pool is full",
			"<td>p99_seconds</td><td>0.02</td><td>0.024</td><td>20.0 %</td>", `<td class="confirmed">confirmed</td>`,
			", 20/s were due</td>", `<td class="failed">4</td>`, "3 × Unavailable: connection refused", "account is missing: the server is gone",
			"may not have been warm: 4 &lt;late&gt;</p>",
			"<td>dali</td>", "8.0 %", "<h2>Run 1 of 1</h2>") {
			if !strings.Contains(page, text) {
				t.Errorf("%s: the page has no %q", name, text)
			}
		}
		for _, text := range c.lacks {
			if strings.Contains(page, text) {
				t.Errorf("%s: the page has %q", name, text)
			}
		}
	}
}

// A page needs no other file and runs no script, whatever the names are that a server gives its models.
func TestBenchHTMLStandsAlone(t *testing.T) {
	t.Parallel()
	const evil = `</title></desc></svg><script src="//x">alert('x')</script><img src=x onerror=y>` + " \x1b[31m\x00 \u202e{{.}}"
	r := bench.Result{Server: evil, Environment: bench.Environment{Model: evil}, Findings: []string{evil}, Runs: [][]bench.Measurement{runOf(closedLoad(1), closedLoad(8))}}
	for i := range r.Runs[0] {
		m := &r.Runs[0][i]
		m.Load.Model, m.Models[1].Model, m.Limit.Model, m.ModelsMissing, m.WarmupFailed = evil, evil, evil, evil, evil
	}
	page := benchHTML(t, r, errors.New(evil))
	if found := regexp.MustCompile(`(?i)<(script|img|link|iframe|object|image|use|foreignObject)\b|@import|url\(|\shref=|\ssrc=["x]?//`).FindAllString(
		regexp.MustCompile(`&lt;.*?&gt;`).ReplaceAllString(page, ""), -1); found != nil {
		t.Errorf("the page has %q", found)
	}
	if strings.ContainsAny(page, "\x1b\x00\u202e") {
		t.Error("the page has a control character")
	}
	if opened, closed := strings.Count(page, "<svg"), strings.Count(page, "</svg>"); opened != 3 || closed != 3 {
		t.Errorf("%d pictures begin and %d end", opened, closed)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bid="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if seen[m[1]] {
			t.Errorf("two elements are called %s", m[1])
		}
		seen[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`aria-labelledby="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		for id := range strings.FieldsSeq(m[1]) {
			if !seen[id] {
				t.Errorf("a picture is labelled by %s, which is not there", id)
			}
		}
	}
}

// The file of --html has the page, also of what ended with an error, and what cannot be written is told of.
func TestFileOfBench(t *testing.T) {
	t.Parallel()
	f := Files{HTML: filepath.Join(t.TempDir(), "bench.html")}
	if err := f.WriteBench(bench.Result{}, errors.New("no server")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(f.HTML); err != nil || !strings.Contains(string(text), `<p class="failed">no server</p>`) {
		t.Errorf("%v\n%s", err, text)
	}
	if err := (Files{}).WriteBench(bench.Result{}, nil); err != nil {
		t.Errorf("no file: %v", err)
	}
	if err := (Files{HTML: "/dev/full"}).WriteBench(bench.Result{}, nil); err == nil || !strings.HasPrefix(err.Error(), "write the report /dev/full: ") {
		t.Errorf("a full disk: %v", err)
	}
}
