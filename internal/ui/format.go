package ui

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muesli/termenv"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// palette colours text, or leaves it as it is.
type palette struct{ profile termenv.Profile }

func (p palette) colour(c termenv.ANSIColor, s string) string {
	return p.profile.String(s).Foreground(c).String()
}
func (p palette) green(s string) string  { return p.colour(termenv.ANSIGreen, s) }
func (p palette) red(s string) string    { return p.colour(termenv.ANSIRed, s) }
func (p palette) yellow(s string) string { return p.colour(termenv.ANSIYellow, s) }
func (p palette) faint(s string) string  { return p.profile.String(s).Faint().String() }

// elapsed returns a duration for people: 0.2s, 4.2s, 41s, 2m05s, 1h02m.
func elapsed(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", max(d, 0).Seconds())
	}
	return clock(d.Round(time.Second))
}

// clock is elapsed without tenths, for a step that runs.
func clock(d time.Duration) string {
	s := int(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	default:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
}

// reasonOf ends the name of a fact that is the reason for another one: lane_reason is the reason for lane.
const reasonOf = "_reason"

// factFirst is the fact that is a sentence of its own.
const factFirst = "first_run"

// facts returns facts in the order of their names, with reasons after the facts that they are for: "lane cpu (asked
// for), weights random:1; first run: it makes each result".
func facts(m map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		subject, isReason := strings.CutSuffix(name, reasonOf)
		if m[name] == "" || name == factFirst || isReason && m[subject] != "" {
			continue
		}
		words := strings.ReplaceAll(name, "_", " ")
		if words != name { // several words need a colon before the value
			words += ":"
		}
		part := words + " " + m[name]
		if why := m[name+reasonOf]; why != "" {
			part += " (" + why + ")"
		}
		parts = append(parts, printable.Line(part))
	}
	text := strings.Join(parts, ", ")
	if first := m[factFirst]; first != "" {
		if text != "" {
			text += "; "
		}
		text += "first run: " + printable.Line(first)
	}
	return text
}

// ending returns how a step ended, without the error, which [Error] prints.
func ending(e pipeline.Ended) string {
	s := string(e.State)
	switch e.State {
	case pipeline.Done:
		s += " in " + elapsed(e.Elapsed)
	case pipeline.Failed, pipeline.Cancelled:
		s += " after " + elapsed(e.Elapsed)
	case pipeline.Cached, pipeline.Skipped: // took no time
	}
	if e.Reason != "" {
		s += ": " + printable.Line(e.Reason)
	}
	return s
}

// runEnding returns how a run ended.
func runEnding(e pipeline.RunEnded) string {
	if e.Err != nil {
		return "ended with an error after " + elapsed(e.Elapsed)
	}
	return "done in " + elapsed(e.Elapsed)
}

// isShown reports whether to show a verdict: one that the step's end repeats is not shown.
func isShown(v pipeline.Verdict, verbose bool) bool {
	switch v.Kind {
	case pipeline.WillRun:
		return true
	case pipeline.Depends, pipeline.AlwaysRuns:
		return verbose
	case pipeline.WillReuse, pipeline.IsPresent, pipeline.NotNeeded: // the step's end repeats it
	}
	return false
}

// reasons returns the changes that a verdict gives, if any.
func reasons(v pipeline.Verdict) string {
	parts := make([]string, len(v.Because))
	for i, c := range v.Because {
		parts[i] = printable.Line(c.String())
	}
	return strings.Join(parts, "; ")
}

// gauge is what is known of the progress of a step. What it shows of one thing (one text and unit) never goes down,
// although retried downloads start over. It shows no percentage: a registry's totals grow as layers become known, so
// that it would go down or be untrue.
type gauge struct {
	marks map[pipeline.Progress]mark // by text and unit
	now   pipeline.Progress
}

type mark struct{ current, total int64 }

func (g *gauge) set(p pipeline.Progress) {
	g.now = pipeline.Progress{Text: p.Text, Unit: p.Unit}
	if g.marks == nil {
		g.marks = map[pipeline.Progress]mark{}
	}
	m := g.marks[g.now]
	g.marks[g.now] = mark{max(m.current, p.Current), max(m.total, p.Total)}
}

// String returns "pulling 114.4 MiB of 1.118 GiB", or as much of it as is known.
func (g *gauge) String() string {
	m := g.marks[g.now]
	var parts []string
	if g.now.Text != "" {
		parts = append(parts, printable.Line(g.now.Text))
	}
	switch {
	case m.total > 0:
		parts = append(parts, quantity(min(m.current, m.total), g.now.Unit), "of", quantity(m.total, g.now.Unit))
	case m.current > 0:
		parts = append(parts, quantity(m.current, g.now.Unit))
	}
	return strings.Join(parts, " ")
}

func quantity(n int64, unit string) string {
	switch unit {
	case "B":
		return bytesize.Format(n)
	case "":
		return strconv.FormatInt(n, 10)
	default:
		return fmt.Sprintf("%d %s", n, printable.Line(unit))
	}
}
