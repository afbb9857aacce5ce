package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dalirun/dalirun/internal/printable"
)

// Version is the version of the JSON form of a [Result], docs/schemas/bench.schema.json. It grows when a reader of the
// old form would go wrong.
const Version = 1

// A Result is all that was measured of a server.
type Result struct {
	Version     int         `json:"version"`
	Program     string      `json:"dalirun,omitempty" jsonschema:"version of the program"`
	Started     time.Time   `json:"started"`
	Server      string      `json:"server" jsonschema:"address of the server"`
	Environment Environment `json:"environment"`
	// Interrupted says that the measuring was ended early.
	Interrupted bool `json:"interrupted"`
	// Runs have a measurement for each load. There is more than one if a figure that became worse had to be confirmed.
	Runs [][]Measurement `json:"runs" jsonschema:"each run has a measurement for each load"`
	// Findings are what the server's log has of the time of the measuring that explains figures, a sentence each.
	Findings []string `json:"findings,omitempty" jsonschema:"what the server's log says that explains figures"`
	// Comparisons are with a baseline; nil without one.
	Comparisons []Comparison `json:"comparisons,omitempty" jsonschema:"with the baseline, if there was one"`
}

// WriteJSON writes one JSON object, indented. It writes all of it at once, or nothing.
func (r Result) WriteJSON(w io.Writer) error {
	if r.Runs == nil {
		r.Runs = [][]Measurement{} // a list of none, where nothing was measured
	}
	return writeJSON(w, r)
}

func writeJSON(w io.Writer, value any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}

// WriteText writes tables for people, with latencies in milliseconds.
func (r Result) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(printable.Line(r.Setting()) + "\n")
	if r.Interrupted {
		b.WriteString("interrupted: this is what was measured until then\n")
	}
	b.WriteString("\n")
	for i, run := range r.Runs {
		if len(r.Runs) > 1 {
			fmt.Fprintf(&b, "run %d of %d\n", i+1, len(r.Runs))
		}
		rows := [][]string{{
			"load", "requests/s", "pictures/s", "p50 ms", "p90", "p95", "p99", "max", "failed", "skipped", "client CPU",
		}}
		for _, m := range run {
			rows = append(rows, m.row())
		}
		table(&b, rows)
		for _, m := range run {
			b.WriteString("\n" + printable.Line(m.Load.String()) + "\n")
			m.details(&b)
		}
		if i+1 < len(r.Runs) {
			b.WriteString("\n")
		}
	}
	for _, text := range r.Findings {
		fmt.Fprintf(&b, "\nfound in the server's log: %s\n", printable.Line(text))
	}
	if len(r.Comparisons) > 0 {
		b.WriteString("\ncompared with the baseline\n")
		table(&b, comparisonRows(r.Comparisons))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Setting is "ensemble at 127.0.0.1:8001, gpu lane, NVIDIA H100 80GB HBM3, driver 580.95.05".
func (r Result) Setting() string {
	parts := []string{r.Environment.Model + " at " + r.Server}
	if r.Environment.Lane != "" {
		parts = append(parts, r.Environment.Lane+" lane")
	}
	if r.Environment.GPU != "" {
		parts = append(parts, r.Environment.GPU)
	}
	if r.Environment.Driver != "" {
		parts = append(parts, "driver "+r.Environment.Driver)
	}
	return strings.Join(parts, ", ")
}

// short is "16 at a time" or "20/s".
func (l Load) short() string {
	if l.Rate > 0 {
		return l.rate() + "/s"
	}
	return strconv.Itoa(l.Concurrency) + " at a time"
}

// String is "8 at a time: 37.9 requests/s, p50 210 ms, p99 248 ms, 0 failed".
func (m Measurement) String() string {
	return fmt.Sprintf("%s: %s requests/s, p50 %s, p99 %s, %d failed", m.Load.short(), figure(m.AchievedRate),
		ms(m.Latency.P50Seconds), ms(m.Latency.P99Seconds), m.Failed)
}

func (m Measurement) row() []string {
	row := []string{m.Load.short(), figure(m.AchievedRate), figure(m.PicturesPerSecond)}
	l := m.Latency
	for _, v := range []float64{l.P50Seconds, l.P90Seconds, l.P95Seconds, l.P99Seconds, l.MaxSeconds} {
		row = append(row, Milliseconds(v))
	}
	return append(row, strconv.FormatUint(m.Failed, 10), strconv.FormatUint(m.Skipped, 10),
		fmt.Sprintf("%s a request, %.2f of %s", us(m.Client.CPUPerRequestSeconds), m.Client.Share,
			printable.Count(m.Client.Cores, "core")))
}

// details writes what a measurement has beyond its row.
func (m Measurement) details(b *strings.Builder) {
	switch {
	case m.Interrupted && m.WindowSeconds == 0:
		b.WriteString("  interrupted in the warm-up\n")
	case m.Interrupted:
		fmt.Fprintf(b, "  interrupted after %.1f s; %s in flight then\n", m.WindowSeconds,
			printable.Count(int64(m.Abandoned), "request")) //nolint:gosec // as many as were in flight
	}
	if m.WarmupFailed != "" {
		fmt.Fprintf(b, "  the warm-up failed, and the server may not have been warm: %s\n", printable.Line(m.WarmupFailed))
	}
	for _, e := range m.Errors {
		fmt.Fprintf(b, "  %d × %s: %s\n", e.Count, e.Class, printable.Line(e.Example))
	}
	if m.Latency.Bounds > 0 {
		fmt.Fprintf(b, "  %d of %d latencies are those of requests that were given up: at least as long\n",
			m.Latency.Bounds, m.Latency.Count)
	}
	if len(m.Models) > 0 {
		rows := [][]string{{"model", "requests", "batch", "queue ms", "input", "compute", "output", "instances", "busy"}}
		for _, s := range m.Models {
			rows = append(rows, s.row())
		}
		table(b, rows)
	}
	if m.ModelsMissing != "" {
		fmt.Fprintf(b, "  the server's own account is missing: %s\n", printable.Line(m.ModelsMissing))
	}
	fmt.Fprintf(b, "  what limits: %s\n", printable.Line(m.Limit.String()))
}

func (s Split) row() []string {
	row := []string{s.Model, strconv.FormatUint(s.Requests, 10), fmt.Sprintf("%.1f", s.AverageBatch)}
	for _, v := range []float64{s.QueueSeconds, s.InputSeconds, s.ComputeSeconds, s.OutputSeconds} {
		row = append(row, Milliseconds(v))
	}
	if s.Ensemble {
		return append(row, "-", "-")
	}
	return append(row, strconv.Itoa(s.Instances), fmt.Sprintf("%.2f", s.Busy))
}

func comparisonRows(all []Comparison) [][]string {
	rows := [][]string{{"load", "figure", "baseline", "measured", "worse by", "verdict"}}
	for _, c := range all {
		const percent = 100
		rows = append(rows, []string{
			c.Load.short(), string(c.Figure), figure(c.Baseline), figure(c.Measured),
			fmt.Sprintf("%.1f %%", percent*c.Worse), string(c.Verdict),
		})
	}
	return rows
}

// figure is a number with about four digits.
func figure(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
}

// table writes rows, whose first is the head, in columns.
func table(b *strings.Builder, rows [][]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = printable.Line(c)
		}
		fmt.Fprintf(w, "  %s\n", strings.Join(cells, "\t"))
	}
	_ = w.Flush() // into memory
}
