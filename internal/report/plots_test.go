package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/chart"
)

// The plots of docs/performance.md are made of docs/performance/*.json; docs/performance/README.md says how.
const (
	performancePage   = "../../docs/performance.md"
	performanceFolder = "../../docs/performance"
	plotsBegin        = "<!-- plots: written by `go test ./internal/report -run Plots -update` -->\n"
	plotsEnd          = "<!-- end of plots -->\n"
)

// TestPlots holds the plots of the documentation against the figures that they show, and the page against the plots.
func TestPlots(t *testing.T) {
	t.Parallel()
	section := checkPlots(t, performanceFolder, "performance/")
	text, err := os.ReadFile(performancePage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), plotsBegin)
	_, after, ended := strings.Cut(rest, plotsEnd)
	if !begun || !ended {
		t.Fatalf("%s has no lines %sand %s", performancePage, plotsBegin, plotsEnd)
	}
	want := before + plotsBegin + section + plotsEnd + after
	if want != string(text) && *update {
		if err := os.WriteFile(performancePage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), want); diff != "" {
		t.Errorf("%s (-page +made); -update writes it:\n%s", performancePage, diff)
	}
}

// TestPlotsOfStub makes plots of a stub's figures, as there may be none in the documentation.
func TestPlotsOfStub(t *testing.T) {
	t.Parallel()
	golden(t, "performance/section.md", checkPlots(t, "testdata/performance", "performance/"))
}

// checkPlots compares each FILE.svg of a folder with what FILE.json says, or writes it, and returns the section of a page
// that shows them. A plot without figures is refused.
func checkPlots(t *testing.T, folder, link string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var section strings.Builder
	var plots []string
	for _, file := range files {
		base := strings.TrimSuffix(filepath.Base(file), ".json")
		results, err := readResults(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		picture, err := plot(base, results)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := filepath.Join(folder, base+".svg")
		goldenFile(t, name, picture)
		plots = append(plots, name)
		section.WriteString(show(base, link, results))
	}
	drawn, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range drawn {
		if !slices.Contains(plots, name) {
			t.Errorf("%s has no JSON with its figures", name)
		}
	}
	return section.String()
}

// readResults reads what one or several `dalirun bench --format json` wrote into a file, one after the other.
func readResults(file string) ([]bench.Result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read
	d := json.NewDecoder(f)
	d.DisallowUnknownFields() // a saved baseline, for one
	var all []bench.Result
	for {
		var r bench.Result
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case r.Version != bench.Version:
			return nil, fmt.Errorf("it has version %d, and %d is known", r.Version, bench.Version)
		case len(all) > 0 && r.Environment != all[0].Environment:
			return nil, fmt.Errorf("its results are of two servers: %+v and %+v", all[0].Environment, r.Environment)
		}
		all = append(all, r)
	}
}

// plot draws all charts of results below each other.
func plot(id string, results []bench.Result) (string, error) {
	var measured []bench.Measurement
	for _, r := range results {
		measured = append(measured, slices.Concat(r.Runs...)...)
	}
	var charts []chart.Chart
	for _, s := range sweeps(measured) {
		charts = append(charts, s.charts()...)
	}
	if len(charts) == 0 {
		return "", errors.New("it has no two loads that differ in one number")
	}
	picture, err := chart.SVG(id, results[0].Setting(), charts...)
	return string(picture), err
}

// show is how a page shows a plot: where its figures are of, and where they are.
func show(base, link string, results []bench.Result) string {
	first := results[0]
	words := first.Setting()
	if first.Program != "" {
		words += ", dalirun " + first.Program
	}
	return fmt.Sprintf("![Throughput, latency and busy instances as lines, with the figures of %[2]s%[1]s.json](%[2]s%[1]s.svg)\n\n"+
		"%[3]s, %[4]s ([figures](%[2]s%[1]s.json)).\n\n", base, link, words, first.Started.UTC().Format("2006-01-02"))
}

// What is no result of bench, or nothing to be compared, makes no plot.
func TestPlotsRefused(t *testing.T) {
	t.Parallel()
	const result = `{"version": 1, "environment": {"model": "m", "gpu": "%s"}, "runs": [[{"window_seconds": 1, "load": {"concurrency": 1, "batch": 1}}]]}`
	for name, c := range map[string]struct{ text, err string }{
		"a baseline":    {`{"version": 1, "levels": []}`, `unknown field "levels"`},
		"another form":  {`{"version": 2}`, "it has version 2, and 1 is known"},
		"not whole":     {`{"version": 1,`, "unexpected EOF"},
		"two servers":   {fmt.Sprintf(result, "one") + fmt.Sprintf(result, "two"), "its results are of two servers"},
		"a single load": {fmt.Sprintf(result, "one"), "it has no two loads that differ in one number"},
		"nothing":       {"", "it has no two loads"},
	} {
		file := filepath.Join(t.TempDir(), "figures.json")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		results, err := readResults(file)
		if err == nil {
			_, err = plot("figures", results)
		}
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
