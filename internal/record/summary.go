package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
)

// SummaryVersion is the version of a summary's JSON form. It grows when a reader of the old form would go wrong.
const SummaryVersion = 1

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Killed  Outcome = "killed"  // it did not get to its end
	Running Outcome = "running" // it is at work
	Unknown Outcome = "unknown"
)

// Summary is what a record tells: what the run was, what it came to, why, and whose turn it is.
type Summary struct {
	Version int       `json:"version"`
	Path    string    `json:"record"`
	Run     string    `json:"run,omitempty"`
	Program string    `json:"dalirun,omitempty"` // that made the run
	Command string    `json:"command,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Seconds float64   `json:"duration_seconds,omitempty"`
	Outcome Outcome   `json:"outcome"`
	// ExitCode is how dalirun ended; nil where that is not on record.
	ExitCode *int `json:"exit_code,omitempty"`
	// Cut says why the record ends early; empty for one that does not.
	Cut     string       `json:"cut,omitempty"`
	LeftOut []string     `json:"left_out,omitempty"`
	Cause   *cause.Cause `json:"cause,omitempty"` // of a run that did not pass
	// Noticed is what the run met, whatever it came to: a damaged cache, others on the GPU, a clock that was set back.
	Noticed []cause.Cause `json:"noticed"`
	Error   string        `json:"error,omitempty"`
	Repeat  string        `json:"repeat,omitempty"` // the line that repeats the step that failed by hand

	Flags       []target.Setting  `json:"flags"`       // that were named, wherever
	Environment []string          `json:"environment"` // variables that dalirun and a container engine's client read
	Target      map[string]string `json:"facts"`       // of the whole run: lane, image source, weights
	Images      map[string]string `json:"images"`      // digests, by step
	Picture     string            `json:"picture_sha256,omitempty"`
	Steps       []Step            `json:"steps"`
	Parity      *parity.Report    `json:"parity,omitempty"`
	Warnings    []string          `json:"warnings,omitempty"`
	Files       []string          `json:"files"` // members of the record
}

// Summarize returns what a record tells.
func Summarize(r *Record) Summary {
	run := r.Run()
	s := Summary{
		Version: SummaryVersion, Path: r.Path, Run: run.ID, Program: r.Program, Command: r.Command, Started: r.Started,
		Seconds: run.Seconds, LeftOut: r.LeftOut, Error: run.Error, Target: run.Facts, Steps: run.Steps,
		Parity: run.Parity, Warnings: run.Warnings, Files: r.Files(), Images: images(run),
		Flags: []target.Setting{}, Environment: []string{}, Noticed: append([]cause.Cause{}, run.noticed()...),
	}
	if r.Cut != nil {
		s.Cut = r.Cut.Error()
	}
	if s.Started.IsZero() {
		s.Started = run.Started
	}
	var request target.Request
	if r.Decode(RequestFile, &request) == nil && request.Settings != nil {
		s.Flags = request.Settings
	}
	if lines := r.lines(EnvironmentFile); lines != nil && lines[0] != "" {
		s.Environment = lines
	}
	if picture, err := r.File(PictureFile); err == nil {
		sum := sha256.Sum256(picture)
		s.Picture = hex.EncodeToString(sum[:])
	}
	failure := r.Failure()
	if c, failed := r.Cause(); failed {
		s.Cause = &c
	}
	switch {
	case r.Running:
		s.Outcome, s.Cut = Running, ""
	case failure != nil:
		s.Outcome, s.ExitCode, s.Error, s.Repeat = Failed, &failure.ExitCode, failure.Text, failure.Repeat
	case !r.Complete:
		s.Outcome = Killed
	case s.Cause != nil:
		s.Outcome = Failed
	case r.Cut != nil && !run.Ended: // what it ended with may be in the part that is missing
		s.Outcome = Unknown
	case run.Ended || r.Program != "":
		s.Outcome, s.ExitCode = Passed, new(int)
	default:
		s.Outcome = Unknown
	}
	return s
}

// images returns the digests of the images of a run, by the steps that got them.
func images(run Run) map[string]string {
	all := map[string]string{}
	for _, s := range run.Steps {
		if strings.HasSuffix(string(s.ID), "-image") {
			for _, digest := range s.Digests {
				all[string(s.ID)] = digest
			}
		}
	}
	return all
}

// WriteText writes a summary for people: the verdict first.
func (s Summary) WriteText(to io.Writer) error {
	var b strings.Builder
	what := strings.TrimSpace(printable.Line(s.Command) + " " + printable.Line(s.Run))
	fmt.Fprintf(&b, "%s %s", what, s.Outcome)
	if s.ExitCode != nil && *s.ExitCode != 0 {
		fmt.Fprintf(&b, " with exit code %d", *s.ExitCode)
	}
	if s.Seconds > 0 {
		fmt.Fprintf(&b, " after %.1f s", s.Seconds)
	}
	fmt.Fprintf(&b, ", %s", s.Started.UTC().Format(time.RFC3339))
	if s.Program != "" {
		fmt.Fprintf(&b, ", dalirun %s", printable.Line(s.Program))
	}
	fmt.Fprintln(&b)
	if s.Cut != "" {
		fmt.Fprintf(&b, "the record ends early: %s\n", printable.Line(s.Cut))
	}
	s.writeRequest(&b)
	s.writeCause(&b)
	for _, n := range s.Noticed {
		fmt.Fprintf(&b, "\nnoticed  %s (%s): %s\n", n.ID, n.Turn, printable.Line(n.Text))
	}
	if s.Parity != nil {
		fmt.Fprintln(&b)
		for _, c := range s.Parity.Comparisons {
			fmt.Fprintln(&b, comparisonText(c))
		}
	}
	b.WriteByte('\n')
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0) //nolint:mnd // two spaces between columns
	if len(s.Steps) > 0 {
		fmt.Fprintln(table, "step\tended\ttook\twas planned")
	}
	for _, step := range s.Steps {
		fmt.Fprintf(table, "%s\t%s\t%.1f s\t%s\n", printable.Line(string(step.ID)), printable.Line(stateText(step)),
			step.Seconds, printable.Line(step.Verdict))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(&b, "warning: "+printable.Line(w))
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// writeRequest writes what was asked for, and what the run was.
func (s Summary) writeRequest(b *strings.Builder) {
	var flags, facts []string
	for _, f := range s.Flags {
		flags = append(flags, f.String())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Target)) {
		facts = append(facts, name+" "+s.Target[name])
	}
	for _, row := range [][2]string{{"flags", strings.Join(flags, " ")}, {"run", strings.Join(facts, ", ")}} {
		if row[1] != "" {
			fmt.Fprintf(b, "%-6s %s\n", row[0], printable.Line(row[1]))
		}
	}
}

// writeCause writes why the run failed, and whose turn it is; nothing for one that did not.
func (s Summary) writeCause(b *strings.Builder) {
	c := s.Cause
	if c == nil {
		return
	}
	fmt.Fprintf(b, "\ncause  %s: %s\n", c.ID, printable.Line(c.Text))
	again := "the same run will fail again"
	if c.Retryable {
		again = "the same run may pass if it is run again"
	}
	if c.Turn == cause.Unknown {
		again = "whether it comes again is not known"
	}
	fmt.Fprintf(b, "turn   %s; %s\n", c.Turn, again)
	for _, row := range [][2]string{
		{"step", string(c.Step)}, {"error", s.Error}, {"seen", c.Seen}, {"hint", c.Hint},
	} {
		if row[1] != "" && (row[0] != "seen" || row[1] != s.Error) {
			fmt.Fprintf(b, "%-6s %s\n", row[0], printable.Line(row[1]))
		}
	}
}

func stateText(s Step) string {
	switch {
	case s.State != "":
		return string(s.State)
	case s.Began:
		return "was at work"
	default:
		return "not begun"
	}
}

// comparisonText is one comparison in one line.
func comparisonText(c parity.Comparison) string {
	verdict := "ok"
	if !c.OK {
		verdict = "off: " + strings.Join(c.Off, ", ")
	}
	f := c.Figures
	return fmt.Sprintf("%-14s mean abs %.6g, max abs %.6g, max rel %.6g, cosine %.9f; %s", c.Name, f.MeanAbs, f.MaxAbs,
		f.MaxRel, f.Cosine, verdict)
}
