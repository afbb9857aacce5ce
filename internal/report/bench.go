package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/pipeline"
)

const inMillis = 1e3 // a second

//go:embed bench.html.tmpl
var benchPage string

// WriteBenchHTML writes what a server was measured at, and what that ended with, as one page that needs no other file
// and runs no script. Percentages and milliseconds are for people: the exact figures are in the JSON.
func WriteBenchHTML(w io.Writer, r bench.Result, err error) error {
	charts, chartErr := benchCharts(r.Runs)
	if chartErr != nil {
		return chartErr
	}
	data := struct {
		Result      bench.Result
		Verdict     Verdict
		Error, Hint string
		Charts      []template.HTML
	}{Result: r, Verdict: Passed, Charts: charts}
	switch {
	case r.Interrupted:
		data.Verdict = Cancelled
	case err != nil:
		data.Verdict, data.Error, data.Hint = Failed, err.Error(), pipeline.HintOf(err)
	}
	return writePage(w, benchPage, template.FuncMap{
		"add":     func(a, b int) int { return a + b },
		"percent": func(share float64) string { return fmt.Sprintf("%.1f %%", whole*share) },
		"ms": func(seconds float64) string {
			return fmt.Sprintf("%.2f", inMillis*seconds)
		},
	}, data)
}
