package status

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
)

// WriteText writes a status for people, all of it at once. Ages are as of when the server was judged.
func (s Status) WriteText(w io.Writer) error {
	var b strings.Builder
	serving.WriteHealth(&b, s.Server.Name, s.Health)
	if s.Health.State != serving.Healthy {
		b.WriteString("\n")
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range s.facts() {
		fmt.Fprintf(t, "  %s\t%s\n", row[0], printable.Line(row[1]))
	}
	_ = t.Flush() // into memory
	for _, f := range s.Findings {
		at := ""
		if !f.Time.IsZero() {
			at = ", last at " + stamp(f.Time)
		}
		fmt.Fprintf(&b, "warning%s: %s\n", at, printable.Line(f.Text))
	}
	s.writeModels(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// facts are rows of a name and what there is to say.
func (s Status) facts() [][2]string {
	age := func(since time.Time) string { return s.Judged.Sub(since).Round(time.Second).String() }
	rows := [][2]string{{"judged", "at " + stamp(s.Judged)}}
	if ready := s.Server.Ready; !ready.IsZero() {
		rows = append(rows, [2]string{"ready", "since " + stamp(ready) + " (" + age(ready) + ")"})
	}
	container := s.Server.Name + " of " + s.Server.Image + ", since " + stamp(s.Server.Created) + " (" +
		age(s.Server.Created) + ")"
	rows = append(rows, [2]string{"container", container})
	if text := s.Served.text(); text != "" {
		rows = append(rows, [2]string{"serves", text})
	}
	if s.Built != nil {
		rows = append(rows, [2]string{"built since", s.Built.text()})
	}
	if text := s.Server.ports(); text != "" {
		rows = append(rows, [2]string{"ports", text})
	}
	for _, g := range s.GPUs {
		memory := "memory not known"
		if g.MemoryBytes > 0 {
			memory = bytesize.Format(g.MemoryUsedBytes) + " of " + bytesize.Format(g.MemoryBytes) + " in use"
		}
		rows = append(rows, [2]string{"gpu " + strconv.Itoa(g.Index), g.Name + ", " + memory})
	}
	if s.GPUsMissing != "" {
		rows = append(rows, [2]string{"gpu", "not known: " + s.GPUsMissing})
	}
	return rows
}

// text is "gpu lane, ngc images of 25.03, fp16, weights random:0 (labels mean nothing), batches up to 256".
func (s Served) text() string {
	var parts []string
	if s.Lane != "" {
		parts = append(parts, s.Lane+" lane")
	}
	if s.Source != "" {
		images := s.Source + " images"
		if s.Release != "" {
			images += " of " + s.Release
		}
		parts = append(parts, images)
	}
	if s.Precision != "" {
		parts = append(parts, s.Precision)
	}
	if s.Weights != "" {
		weights := "weights " + s.Weights
		if s.Seeded() {
			weights += " (" + serving.LabelsMeanNothing + ")"
		}
		parts = append(parts, weights)
	}
	if s.MaxBatch > 0 {
		parts = append(parts, "batches up to "+strconv.Itoa(s.MaxBatch))
	}
	return strings.Join(parts, ", ")
}

// text is "weights random:1 (served: random:0), at 2026-08-23T10:15:00Z: `dalirun reload` serves it".
func (b Built) text() string {
	var parts []string
	for _, d := range b.Differences {
		parts = append(parts, d.String())
	}
	if len(parts) == 0 {
		parts = []string{"of other settings"}
	}
	return strings.Join(parts, ", ") + ", at " + stamp(b.Time) + ": `" + b.Command + "` serves it"
}

func (s Server) ports() string {
	var parts []string
	for _, p := range [][2]string{{"grpc", s.GRPC}, {"http", s.HTTP}, {"metrics", s.Metrics}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	text := strings.Join(parts, " · ")
	if s.Engine != "" {
		text += ", on the container engine's host, " + s.Engine
	}
	return text
}

// writeModels writes a table of the models, and below it what is wrong with them.
func (s Status) writeModels(b *strings.Builder) {
	if len(s.Models) > 0 {
		b.WriteString("\n")
		t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "MODEL\tVERSION\tSTATE\tREQUESTS/S\tBUSY\tLAST\t"+
			"REQUESTS\tFAILED\tBATCH\tQUEUE ms\tINPUT\tCOMPUTE\tOUTPUT")
		for _, m := range s.Models {
			fmt.Fprintln(t, strings.Join(m.row(s.Judged), "\t"))
		}
		_ = t.Flush() // into memory
	}
	for _, m := range s.Models {
		for _, text := range []string{m.Reason, m.FiguresMissing} {
			if text != "" {
				fmt.Fprintf(b, "%s: %s\n", printable.Line(m.Name), printable.Line(text))
			}
		}
	}
	if s.WindowSeconds > 0 {
		fmt.Fprintf(b, "\nREQUESTS/S and BUSY are of the last %.1f s, all else is since the model was loaded\n",
			s.WindowSeconds)
	}
	if s.ModelsMissing != "" {
		fmt.Fprintf(b, "\nthe server's own account is missing: %s\n", printable.Line(s.ModelsMissing))
	}
}

// row has a cell for each column. Those of an ensemble that are about execution have none: it executes nothing itself.
func (m Model) row(now time.Time) []string {
	state := string(m.State)
	if m.State == "" {
		state = "not loaded"
	}
	cells := []string{printable.Line(m.Name), m.Version, state}
	f := m.Figures
	if f == nil {
		return cells
	}
	busy, batch := "-", "-"
	if !f.Ensemble {
		busy, batch = fmt.Sprintf("%.2f of %d", f.Busy, f.Instances), fmt.Sprintf("%.1f", f.AverageBatch)
	}
	last := "never"
	if !f.LastInference.IsZero() {
		last = max(0, now.Sub(f.LastInference)).Round(time.Second).String() + " ago"
	}
	cells = append(cells, fmt.Sprintf("%.1f", f.RequestsPerSecond), busy, last, strconv.FormatUint(f.Requests, 10),
		strconv.FormatUint(f.Failures, 10), batch)
	for _, seconds := range []float64{f.QueueSeconds, f.InputSeconds, f.ComputeSeconds, f.OutputSeconds} {
		cells = append(cells, bench.Milliseconds(seconds))
	}
	return cells
}

// stamp is a time as `dalirun logs --since` takes it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
