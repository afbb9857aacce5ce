package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// BaselineVersion is the version of a baseline's JSON form. It grows when a reader of the old form would go wrong.
const BaselineVersion = 1

// An Environment is what measurements must share to be compared. A field that is not known is empty.
type Environment struct {
	GPU      string `json:"gpu"`      // names of the GPUs, empty on the cpu lane
	Driver   string `json:"driver"`   // version of NVIDIA's driver
	Image    string `json:"image"`    // the server's image, by its digest
	Lane     string `json:"lane"`     // gpu or cpu
	Model    string `json:"model"`    // that is asked
	Pictures string `json:"pictures"` // what the pictures are, such as a digest of them all
	// Server is the address of a server of which nothing else is known; empty for any other. What two such servers have
	// is as likely the same as not, so one is compared with itself alone.
	Server string `json:"server,omitempty" jsonschema:"address of a server of which nothing else is known"`
}

// A Baseline is figures that later measurements are compared with.
type Baseline struct {
	Version     int         `json:"version"`
	Program     string      `json:"dalirun,omitempty"` // version of the program
	Saved       time.Time   `json:"saved"`
	Environment Environment `json:"environment"`
	Levels      []Level     `json:"levels"`
}

// A Level is the figures of one load, measured once or more.
type Level struct {
	Load Load `json:"load"`
	// Figures have a value for each run.
	Figures map[Figure][]float64 `json:"figures"`
}

// A Figure is what is compared of a measurement.
type Figure string

// The figures.
const (
	PicturesPerSecond Figure = "pictures_per_second"
	P50Seconds        Figure = "p50_seconds"
	P99Seconds        Figure = "p99_seconds"
	// AnsweredShare is the part of the requests due that were answered with success, 0 to 1.
	AnsweredShare Figure = "answered_share"
)

// figures are all figures, in the order in which they are told.
func figures() []Figure { return []Figure{PicturesPerSecond, P50Seconds, P99Seconds, AnsweredShare} }

// of returns the figure of a measurement.
func (f Figure) of(m Measurement) float64 {
	switch f {
	case P50Seconds:
		return m.Latency.P50Seconds
	case P99Seconds:
		return m.Latency.P99Seconds
	case AnsweredShare:
		if due := m.Requests + m.Skipped; due > 0 {
			return float64(m.Answered) / float64(due)
		}
		return 0
	case PicturesPerSecond:
	}
	return m.PicturesPerSecond
}

// most is what no measurement exceeds. A baseline with more would hide each regression, or make one of everything.
func (f Figure) most() float64 {
	const picturesPerSecond = 1e9
	switch f {
	case P50Seconds, P99Seconds:
		return maxDuration.Seconds()
	case AnsweredShare:
		return 1
	case PicturesPerSecond:
	}
	return picturesPerSecond
}

// worse is by which share of old, which is above 0, now is worse: 0.05 is 5 % worse, and below 0 it is better.
func (f Figure) worse(old, now float64) float64 {
	if f == P50Seconds || f == P99Seconds {
		return now/old - 1
	}
	return 1 - now/old
}

// NewBaseline makes a baseline of runs, each with a measurement for each load. Several runs tell how far a figure
// strays by itself, which [Compare] takes into account. Runs that were interrupted, and loads of which nothing was
// answered in time, make none.
func NewBaseline(program string, saved time.Time, environment Environment, runs [][]Measurement) (Baseline, error) {
	b := Baseline{Version: BaselineVersion, Program: program, Saved: saved.UTC(), Environment: environment}
	var err error
	b.Levels, err = levels(runs)
	return b, err
}

// levels gathers the figures of runs by their loads, in the order of the first run.
func levels(runs [][]Measurement) ([]Level, error) {
	var out []Level
	for _, run := range runs {
		for _, m := range run {
			switch {
			case m.Interrupted:
				return nil, errors.New("a run that was interrupted has no figures to compare")
			case m.WarmupFailed != "":
				return nil, fmt.Errorf("the warm-up of %s failed: figures of a server that is not warm are not compared", m.Load)
			case m.Answered == 0, m.PicturesPerSecond <= 0:
				return nil, fmt.Errorf("no request was answered in time with %s: there are no figures to compare", m.Load)
			}
			i := slices.IndexFunc(out, func(l Level) bool { return l.Load.same(m.Load) })
			if i < 0 {
				i = len(out)
				out = append(out, Level{Load: m.Load, Figures: map[Figure][]float64{}})
			}
			for _, f := range figures() {
				out[i].Figures[f] = append(out[i].Figures[f], f.of(m))
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there is no measurement to compare")
	}
	return out, nil
}

// same says whether two loads ask the same of a server, for however long.
func (l Load) same(other Load) bool {
	return l.Model == other.Model && l.Concurrency == other.Concurrency && l.Rate == other.Rate &&
		l.MaxInFlight == other.MaxInFlight && l.Batch == other.Batch && l.Connections == other.Connections
}

// ReadBaseline reads what [Baseline.WriteJSON] wrote. It refuses figures that no measurement gives.
func ReadBaseline(data []byte) (Baseline, error) {
	var b Baseline
	if err := json.Unmarshal(data, &b); err != nil {
		return Baseline{}, fmt.Errorf("it is no baseline: %w", err)
	}
	if b.Version != BaselineVersion {
		return Baseline{}, fmt.Errorf("it is version %d of a baseline; this program reads version %d", b.Version,
			BaselineVersion)
	}
	for _, level := range b.Levels {
		for _, f := range figures() {
			values := level.Figures[f]
			if len(values) == 0 {
				return Baseline{}, fmt.Errorf("it has no %s of %s", f, level.Load)
			}
			for _, v := range values {
				if !(v > 0) || v > f.most() {
					return Baseline{}, fmt.Errorf("it is damaged: %s of %s is %v, not above 0 and at most %v", f, level.Load, v,
						f.most())
				}
			}
		}
	}
	return b, nil
}

// WriteJSON writes one JSON object, indented.
func (b Baseline) WriteJSON(w io.Writer) error { return writeJSON(w, b) }

// A Mismatch is an error: measurements that cannot be compared.
type Mismatch struct { //nolint:errname // MismatchError would say it twice
	// Differences are what differs, each as "gpu: H100 → A100".
	Differences []string
}

func (m *Mismatch) Error() string {
	return "measurements of different environments cannot be compared: " + strings.Join(m.Differences, ", ")
}

// differences are those of two environments.
func (e Environment) differences(now Environment) []string {
	var out []string
	for _, f := range []struct{ name, was, is string }{
		{"gpu", e.GPU, now.GPU},
		{"driver", e.Driver, now.Driver},
		{"image", e.Image, now.Image},
		{"lane", e.Lane, now.Lane},
		{"model", e.Model, now.Model},
		{"pictures", e.Pictures, now.Pictures},
		{"server", e.Server, now.Server},
	} {
		if f.was != f.is {
			out = append(out, fmt.Sprintf("%s: %s → %s", f.name, known(f.was), known(f.is)))
		}
	}
	return out
}

func known(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

// A Verdict is what became of a figure.
type Verdict string

// The verdicts.
const (
	// Held is a figure that is within the limit.
	Held Verdict = "held"
	// Suspected is one that is beyond it, in too few runs to tell it from a stray one.
	Suspected Verdict = "suspected"
	// Unconfirmed is one that is beyond it in the middle of enough runs, of which some are as good as the baseline.
	Unconfirmed Verdict = "unconfirmed"
	// Confirmed is one that is beyond it in the middle of enough runs, each of which is worse than any of the baseline.
	Confirmed Verdict = "confirmed"
)

// RunsToConfirm is how many runs it takes to confirm that a figure became worse, and how many a baseline should be made
// of. Of a figure that only strays, further than the limit, any order of all runs is as likely: with five and five,
// each of the new ones is worse than each of the old in one of 252 cases. With three and three it is one of 20, which
// is too many where a dozen figures are compared; with five and one, one of 6.
const RunsToConfirm = 5

// A Comparison is a figure of one load beside that of the baseline.
type Comparison struct {
	Load   Load   `json:"load"`
	Figure Figure `json:"figure"`
	// Baseline and Measured are the medians of the runs.
	Baseline float64 `json:"baseline" jsonschema:"median of the runs"`
	Measured float64 `json:"measured" jsonschema:"median of the runs"`
	Runs     int     `json:"runs"` // that were measured
	// Worse is the share of Baseline by which Measured is worse; below 0 it is better.
	Worse   float64 `json:"worse" jsonschema:"share of the baseline by which it is worse; below 0 it is better"`
	Verdict Verdict `json:"verdict"`
}

// String is "8 at a time: p99_seconds is 12.3 % worse: 0.06891 in place of 0.06137".
func (c Comparison) String() string {
	const percent = 100
	return fmt.Sprintf("%s: %s is %.1f %% worse: %s in place of %s", c.Load.short(), c.Figure, percent*c.Worse,
		figure(c.Measured), figure(c.Baseline))
}

// Check says why measurements of some loads in an environment cannot be compared with the baseline, by a [Mismatch].
func (b Baseline) Check(now Environment, loads []Load) error {
	differences := b.Environment.differences(now)
	for _, load := range loads {
		if !slices.ContainsFunc(b.Levels, func(l Level) bool { return l.Load.same(load) }) {
			differences = append(differences, "the baseline has no "+load.String())
		}
	}
	if len(differences) > 0 {
		return &Mismatch{differences}
	}
	return nil
}

// Compare compares runs, each with a measurement for each load, with a baseline. maxRegression is the share by which a
// figure may be worse, such as 0.05. Runs are best made in turn, so that what drifts meets all loads alike. It is a
// [Mismatch] if the environments differ or the baseline lacks one of the loads, and an error if a run has no figures.
func Compare(b Baseline, now Environment, runs [][]Measurement, maxRegression float64) ([]Comparison, error) {
	if !(maxRegression >= 0) || math.IsInf(maxRegression, 1) {
		return nil, fmt.Errorf("a regression of at most %v is not 0 or more", maxRegression)
	}
	measured, err := levels(runs)
	if err != nil {
		return nil, err
	}
	loads := make([]Load, len(measured))
	for i, level := range measured {
		loads[i] = level.Load
	}
	if err := b.Check(now, loads); err != nil {
		return nil, err
	}
	var out []Comparison
	for _, level := range measured {
		i := slices.IndexFunc(b.Levels, func(l Level) bool { return l.Load.same(level.Load) })
		for _, f := range figures() {
			out = append(out, compare(f, b.Levels[i].Figures[f], level.Figures[f], maxRegression))
			out[len(out)-1].Load = level.Load
		}
	}
	return out, nil
}

// compare compares the values of one figure.
func compare(f Figure, old, now []float64, maxRegression float64) Comparison {
	c := Comparison{Figure: f, Baseline: median(old), Measured: median(now), Runs: len(now), Verdict: Held}
	c.Worse = f.worse(c.Baseline, c.Measured)
	if c.Worse <= maxRegression {
		return c
	}
	eachWorse := true
	for _, v := range now {
		for _, was := range old {
			eachWorse = eachWorse && f.worse(was, v) > 0
		}
	}
	switch {
	case len(now) < RunsToConfirm:
		c.Verdict = Suspected
	case eachWorse:
		c.Verdict = Confirmed
	default:
		c.Verdict = Unconfirmed
	}
	return c
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// Worst is the verdict on all comparisons: the gravest of theirs, Held if there are none. Suspected asks for more runs.
func Worst(all []Comparison) Verdict {
	grave := []Verdict{Held, Unconfirmed, Suspected, Confirmed}
	worst := 0
	for _, c := range all {
		worst = max(worst, slices.Index(grave, c.Verdict))
	}
	return grave[worst]
}
