package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/result"
)

// WriteText writes a summary for people. It leaves out the error, which they read where the program ends.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s\n", r.Verdict, seconds(r.DurationSeconds))
	if s := r.setting(); s != "" {
		fmt.Fprintf(&b, "%s\n", printable.Line(s))
	}
	for _, text := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", printable.Line(text))
	}
	if len(r.Top) > 0 {
		b.WriteString("\nclasses\n")
		table(&b, r.Top, classRow)
	}
	if r.Parity != nil {
		b.WriteString("\nanswers compared with PyTorch's\n")
		table(&b, r.Parity.Comparisons, comparisonRow)
	}
	b.WriteString("\nsteps\n")
	table(&b, r.Steps, Step.row)
	if r.TimeToReadySeconds > 0 {
		fmt.Fprintf(&b, "\nserver ready after %s\n", seconds(r.TimeToReadySeconds))
	}
	if r.Engine != nil {
		fmt.Fprintf(&b, "engine: %s\n", printable.Line(r.Engine.String()))
	}
	for _, gpu := range r.GPUs {
		fmt.Fprintf(&b, "server saw %s\n", printable.Line(gpu))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// setting returns "cpu lane, local images, fp32, weights random:1".
func (r Report) setting() string {
	var parts []string
	if r.Model != "" {
		parts = append(parts, r.Model)
	}
	if r.Lane != "" {
		lane := r.Lane + " lane"
		if r.LaneReason != "" {
			lane += " (" + r.LaneReason + ")"
		}
		parts = append(parts, lane)
	}
	if r.ImageSource != "" {
		parts = append(parts, strings.TrimSuffix(r.ImageSource+" images "+r.Release, " "))
	}
	if r.Precision != "" {
		parts = append(parts, r.Precision)
	}
	if r.Weights != "" {
		parts = append(parts, "weights "+r.Weights)
	}
	return strings.Join(parts, ", ")
}

func table[T any](b *strings.Builder, rows []T, cells func(T) []string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		row := cells(r)
		for i, c := range row {
			row[i] = printable.Line(c)
		}
		fmt.Fprintf(w, "  %s\n", strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = w.Flush() // into memory
}

func classRow(c result.Class) []string {
	return []string{
		fmt.Sprintf("%4d", c.Index), c.Label, fmt.Sprintf("%.4f", c.Score),
		fmt.Sprintf("%.1f %%", whole*c.Probability),
	}
}

func (s Step) row() []string {
	row := []string{string(s.ID), string(s.State), "", s.why()}
	if s.Error != "" {
		row[3] = "" // WriteText leaves it out
	}
	if s.Seconds > 0 {
		row[2] = seconds(s.Seconds)
	}
	return row
}

// why returns why the step ran, failed or was skipped.
func (s Step) why() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Reason != "":
		return s.Reason
	default:
		return strings.Join(s.Because, "; ")
	}
}

func comparisonRow(c parity.Comparison) []string {
	verdict := "ok"
	if !c.OK {
		verdict = "OFF"
	}
	return []string{string(c.Name), verdict, strings.Join(held(c), ", ")}
}

// held returns each bounded figure with its bound.
func held(c parity.Comparison) []string {
	var out []string
	for _, f := range []struct {
		name         string
		figure, most float64
	}{
		{"mean abs", c.Figures.MeanAbs, c.Bound.MeanAbs},
		{"max abs", c.Figures.MaxAbs, c.Bound.MaxAbs},
		{"max rel", c.Figures.MaxRel, c.Bound.MaxRel},
	} {
		if f.most > 0 {
			out = append(out, fmt.Sprintf("%s %.3g (at most %.3g)", f.name, f.figure, f.most))
		}
	}
	if c.Bound.MinCosine > 0 {
		out = append(out, fmt.Sprintf("cosine %.6f (at least %.6g)", c.Figures.Cosine, c.Bound.MinCosine))
	}
	if c.Bound.TopEqual {
		out = append(out, fmt.Sprintf("top class %d (must be %d)", c.Figures.GotTop, c.Figures.WantTop))
	}
	if c.Figures.NonFinite > 0 {
		out = append(out, fmt.Sprintf("%d values not finite (at most none)", c.Figures.NonFinite))
	}
	return out
}

// seconds returns "0.24 s", "4.2 s", "41 s", "2 min 5 s".
func seconds(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.2f s", s)
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 119.5:
		return fmt.Sprintf("%.0f s", s)
	default:
		whole := int(s + 0.5)
		return fmt.Sprintf("%d min %d s", whole/60, whole%60)
	}
}

// WritePulled writes for people a line for each thing that a pull got or found.
func (r Report) WritePulled(w io.Writer) error {
	var b strings.Builder
	table(&b, r.Pulled, func(p result.Pulled) []string {
		return []string{string(p.Step), p.Name, p.Digest, bytesize.Format(p.Bytes)}
	})
	_, err := io.WriteString(w, b.String())
	return err
}
