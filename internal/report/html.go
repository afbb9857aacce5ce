package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

//go:embed page.html.tmpl
var page string

// style is that of all pages.
//
//go:embed style.html.tmpl
var style string

// bar is a step in the timeline, in percent of the run's duration.
type bar struct {
	Step
	Y        int // in pixels
	X, Width string
}

const (
	rowHeight = 22  // pixels of a step in the timeline
	whole     = 100 // percent
)

// WriteHTML writes one page that needs no other file and runs no script.
func (r Report) WriteHTML(w io.Writer) error {
	bars := r.bars()
	return writePage(w, page, template.FuncMap{
		"seconds": seconds, "held": held, "why": Step.why,
		"percent": func(p float32) string { return fmt.Sprintf("%.1f %%", whole*p) },
	}, struct {
		Report
		Setting string
		Bars    []bar
		Height  int
	}{r, r.setting(), bars, len(bars) * rowHeight})
}

// writePage writes a page of a template with the style of all pages.
func writePage(w io.Writer, page string, functions template.FuncMap, data any) error {
	t, err := template.New("page").Funcs(functions).Parse(style)
	if err == nil {
		t, err = t.Parse(page)
	}
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return err
	}
	_, err = io.WriteString(w, printable.Text(b.String()))
	return err
}

// bars returns a bar for each step that took time.
func (r Report) bars() []bar {
	var out []bar
	for _, s := range r.Steps {
		if s.Seconds <= 0 || r.DurationSeconds <= 0 || s.State == pipeline.Cached {
			continue
		}
		from := min(whole, whole*s.StartSeconds/r.DurationSeconds)
		width := min(whole-from, whole*s.Seconds/r.DurationSeconds)
		out = append(out, bar{s, len(out) * rowHeight, fmt.Sprintf("%.2f%%", from), fmt.Sprintf("%.2f%%", max(width, 0.3))})
	}
	return out
}
