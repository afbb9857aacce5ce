package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/chart"
	"github.com/dalirun/dalirun/internal/printable"
)

// A sweep is loads that differ in one number: the requests at a time of closed loops, the rate of open ones, or the
// pictures in a request of either.
type sweep struct {
	kind   sweepKind
	points []sweepPoint // by their numbers, two or more
}

// sweepKind is what all loads of a sweep have.
type sweepKind struct {
	model   string
	open    bool
	byBatch bool
	other   float64 // the batch, or the rate or requests at a time if the loads differ in their batch
}

// A sweepPoint is a load, with a measurement of each run.
type sweepPoint struct {
	at  float64
	all []bench.Measurement
}

// sweeps are those in a list of measurements, in its order. Batches are what loads differ in if there is more than one.
// A load with nothing to be compared with is in none, and what was interrupted before anything was measured counts as
// not there.
func sweeps(measured []bench.Measurement) []sweep {
	measured = slices.DeleteFunc(slices.Clone(measured), func(m bench.Measurement) bool { return m.WindowSeconds <= 0 })
	byBatch := slices.ContainsFunc(measured, func(m bench.Measurement) bool {
		return m.Load.Batch != measured[0].Load.Batch
	})
	var out []sweep
	for _, m := range measured {
		kind := sweepKind{model: m.Load.Model, open: m.Load.Rate > 0, byBatch: byBatch, other: float64(m.Load.Batch)}
		at := max(m.Load.Rate, float64(m.Load.Concurrency)) // one of them is 0
		if byBatch {
			at, kind.other = kind.other, at
		}
		i := slices.IndexFunc(out, func(s sweep) bool { return s.kind == kind })
		if i < 0 {
			i, out = len(out), append(out, sweep{kind: kind})
		}
		s := &out[i]
		n, found := slices.BinarySearchFunc(s.points, at, func(p sweepPoint, at float64) int { return cmp.Compare(p.at, at) })
		if !found {
			s.points = slices.Insert(s.points, n, sweepPoint{at: at})
		}
		s.points[n].all = append(s.points[n].all, m)
	}
	return slices.DeleteFunc(out, func(s sweep) bool { return len(s.points) < 2 })
}

// String is "closed loop, batch 1" or "open loop, 20 requests/s".
func (k sweepKind) String() string {
	loop := "closed loop"
	if k.open {
		loop = "open loop"
	}
	number := strconv.FormatFloat(k.other, 'f', -1, 64)
	switch {
	case !k.byBatch:
		return loop + ", batch " + number
	case k.open:
		return loop + ", " + number + " requests/s"
	default:
		return loop + ", " + printable.Count(int(k.other), "request") + " at a time"
	}
}

// axis is what the loads differ in. What is usually doubled from one load to the next has a logarithmic one.
func (k sweepKind) axis() chart.Axis {
	switch {
	case k.byBatch:
		return chart.Axis{Label: "pictures in a request", Log: true}
	case k.open:
		return chart.Axis{Label: "asked rate", Unit: "requests/s"}
	default:
		return chart.Axis{Label: "requests at a time", Log: true}
	}
}

// charts are throughput, latencies and, if the server gave an account, how busy the instances of its models are.
func (s sweep) charts() []chart.Chart {
	title := func(what string) string { return what + " (" + s.kind.String() + ")" }
	throughput := chart.Chart{
		Title: title("Throughput"), X: s.kind.axis(), Y: chart.Axis{Label: "throughput", Unit: "pictures/s"},
		Series: []chart.Series{s.series("achieved", func(m bench.Measurement) float64 { return m.PicturesPerSecond })},
	}
	if s.kind.open {
		asked := s.series("achieved = asked", func(m bench.Measurement) float64 {
			return m.Load.Rate * float64(m.Load.Batch)
		})
		asked.Reference = true
		throughput.Series = append(throughput.Series, asked)
	}
	latency := chart.Chart{
		Title: title("Latency"), X: s.kind.axis(), Y: chart.Axis{Label: "latency", Unit: "ms", Log: true},
	}
	for _, l := range []struct {
		name string
		of   func(bench.Latency) float64
	}{
		{"p50", func(l bench.Latency) float64 { return l.P50Seconds }},
		{"p90", func(l bench.Latency) float64 { return l.P90Seconds }},
		{"p99", func(l bench.Latency) float64 { return l.P99Seconds }},
	} {
		latency.Series = append(latency.Series, s.series(l.name, func(m bench.Measurement) float64 {
			if m.Latency.Count == 0 {
				return math.NaN()
			}
			return inMillis * l.of(m.Latency)
		}))
	}
	all := []chart.Chart{throughput, latency}
	busy := chart.Chart{
		Title: title("Busy instances"), X: s.kind.axis(),
		Y: chart.Axis{Label: "share of the time that a model's instances execute", Unit: "%", Reach: whole},
	}
	for _, model := range s.models() {
		busy.Series = append(busy.Series, s.series(model, func(m bench.Measurement) float64 { return busyOf(m, model) }))
	}
	if len(busy.Series) > 0 {
		all = append(all, busy)
	}
	return all
}

// series is one figure of all loads: of several runs the median of those that have it.
func (s sweep) series(name string, figure func(bench.Measurement) float64) chart.Series {
	out := chart.Series{Name: name}
	for _, p := range s.points {
		var values []float64
		for _, m := range p.all {
			if v := figure(m); !math.IsNaN(v) {
				values = append(values, v)
			}
		}
		out.Points = append(out.Points, chart.Point{X: p.at, Y: median(values)})
	}
	return out
}

// models are the names of those that execute something, in the server's order.
func (s sweep) models() []string {
	var names []string
	for _, p := range s.points {
		for _, m := range p.all {
			for _, model := range m.Models {
				if !model.Ensemble && !slices.Contains(names, model.Model) {
					names = append(names, model.Model)
				}
			}
		}
	}
	return names
}

// busyOf is how busy a model's instances were, in percent, and not a number if the server gave no account.
func busyOf(m bench.Measurement, model string) float64 {
	i := slices.IndexFunc(m.Models, func(s bench.Split) bool { return s.Model == model })
	if i < 0 {
		return math.NaN()
	}
	return whole * m.Models[i].Busy
}

// median of no values is not a number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// benchCharts are the charts of all runs, each a picture of its own.
func benchCharts(runs [][]bench.Measurement) ([]template.HTML, error) {
	var out []template.HTML
	for _, s := range sweeps(slices.Concat(runs...)) {
		for _, c := range s.charts() {
			picture, err := chart.SVG(fmt.Sprint("chart", len(out)+1), c.Title, c)
			if err != nil {
				return nil, err
			}
			out = append(out, picture)
		}
	}
	return out, nil
}
