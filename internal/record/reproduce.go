package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Level is how much of a run is done again.
type Level string

// The levels.
const (
	// Decision decides again what the run is, from the recorded answers. It proves that this program decides as the
	// recorded one did, or where it does not; it says nothing of this machine.
	Decision Level = "decision"
	// Diagnosis explains the recorded error and logs again. It proves nothing of the run: a newer program may know more.
	Diagnosis Level = "diagnosis"
	// Arithmetic compares the recorded tensors again. It proves that the verdict follows from them, on any machine; it
	// cannot say who made them wrong.
	Arithmetic Level = "arithmetic"
	// Rerun runs the request again, on this machine.
	Rerun Level = "rerun"
)

// Levels are all of them, in the order of what they need.
func Levels() []Level { return []Level{Decision, Diagnosis, Arithmetic, Rerun} }

// Reproduction is what came of doing a part of a run again.
type Reproduction struct {
	Level      Level  `json:"level"`
	Reproduced bool   `json:"reproduced"`
	Proves     string `json:"proves"` // what it proves, and what it cannot
	// Lines are what is different, or what was found, for people.
	Lines []string `json:"lines"`
	// Missing says what the record lacks for it; empty if nothing.
	Missing string         `json:"missing,omitempty"`
	Cause   *cause.Cause   `json:"cause,omitempty"`  // of a diagnosis
	Parity  *parity.Report `json:"parity,omitempty"` // of arithmetic
}

// Decide does the decision again.
func (r *Record) Decide(ctx context.Context) (Reproduction, error) {
	out := Reproduction{
		Level:  Decision,
		Lines:  []string{},
		Proves: "what this dalirun decides from the recorded answers; it asks this machine nothing",
	}
	var request target.Request
	var answers target.Answers
	for name, value := range map[string]any{RequestFile: &request, AnswersFile: &answers} {
		err := r.Decode(name, value)
		if errors.Is(err, fs.ErrNotExist) {
			out.Missing = "the record has no " + name + ": its run asked nothing, or did not get so far"
			if r.Program == "" {
				out.Missing = "a run's folder has no " + name + ": a run keeps it with --record or --runs-dir"
			}
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
	request.Picture.Data, _ = r.File(PictureFile) // a run that was refused early has none
	t, obstacles, err := target.Resolve(ctx, request, target.Replay(&answers))
	if err != nil {
		return out, err
	}
	t.Picture.Data = nil
	out.Reproduced = true
	for name, value := range map[string]any{
		TargetFile: t, ObstaclesFile: slices.Concat([]target.Obstacle{}, obstacles),
	} {
		lines, err := r.differs(name, value)
		if err != nil {
			return out, err
		}
		out.Lines = append(out.Lines, lines...)
	}
	for _, question := range answers.Missing() {
		out.Lines = append(out.Lines, fmt.Sprintf("this dalirun asks what that one did not: %q", question))
	}
	slices.Sort(out.Lines)
	out.Reproduced = len(out.Lines) == 0
	return out, nil
}

// differs says in which lines a value differs from a member, as JSON with a line for each value.
func (r *Record) differs(name string, value any) ([]string, error) {
	recorded, err := r.File(name)
	if err != nil {
		return nil, err
	}
	now, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	was, err := flatten(recorded)
	if err != nil {
		return nil, fmt.Errorf("%s of the record: %w", name, err)
	}
	is, err := flatten(now)
	if err != nil {
		return nil, err
	}
	var lines []string
	for path, value := range is {
		if w, ok := was[path]; !ok || w != value {
			lines = append(lines, fmt.Sprintf("%s%s: %s → %s", name, path, orNothing(w), value))
		}
	}
	for path, value := range was {
		if _, ok := is[path]; !ok {
			lines = append(lines, fmt.Sprintf("%s%s: %s → nothing", name, path, value))
		}
	}
	return lines, nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// flatten returns the values of JSON by their paths, as in ".images.server.ref".
func flatten(text []byte) (map[string]string, error) {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	all := map[string]string{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, below := range v {
				walk(path+"."+name, below)
			}
		case []any:
			for i, below := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), below)
			}
		default:
			line, _ := json.Marshal(v) // it was JSON
			all[path] = string(line)
		}
	}
	walk("", value)
	return all, nil
}

// Diagnose explains the recorded error again.
func (r *Record) Diagnose() (Reproduction, error) {
	out := Reproduction{
		Level: Diagnosis, Lines: []string{}, Proves: "what this dalirun knows of the recorded error, output and logs",
	}
	now, failed := r.Cause()
	if !failed {
		out.Missing = "the run did not fail"
		return out, nil
	}
	out.Cause = &now
	out.Lines = []string{printable.Line(fmt.Sprintf("%s (%s): %s", now.ID, now.Turn, now.Text))}
	if now.Hint != "" {
		out.Lines = append(out.Lines, "hint: "+now.Hint)
	}
	var was cause.Cause
	err := r.Decode(CauseFile, &was)
	if errors.Is(err, fs.ErrNotExist) { // it was killed before it knew one
		out.Reproduced = true
		return out, nil
	}
	out.Reproduced = was.ID == now.ID
	if !out.Reproduced {
		out.Lines = append(out.Lines, fmt.Sprintf("dalirun %s called it %s (%s): %s", r.Program, was.ID, was.Turn, was.Text))
	}
	return out, err
}

// Compare compares the recorded tensors again.
func (r *Record) Compare() (Reproduction, error) {
	out := Reproduction{
		Level:  Arithmetic,
		Lines:  []string{},
		Proves: "that the verdict follows from the recorded tensors; who made them wrong it cannot say",
	}
	a, precision, err := r.Answers()
	if errors.Is(err, ErrNoTensors) {
		out.Missing = ErrNoTensors.Error()
		return out, nil
	}
	if err != nil {
		return out, err
	}
	report, err := parity.CheckAll(a, precision)
	if err != nil {
		out.Lines = []string{err.Error()}
	}
	out.Parity = &report
	for _, c := range report.Comparisons {
		out.Lines = append(out.Lines, comparisonText(c))
	}
	if because := parity.PreprocessingCause(a.Tensor, a.WantTensor); because != "" {
		out.Lines = append(out.Lines, "preprocessing: "+because)
	}
	recorded := r.Run().Parity
	switch {
	case recorded == nil && err != nil: // the run's own comparison was refused too
		out.Reproduced = true
		return out, nil //nolint:nilerr // its text is among the lines
	case recorded == nil:
		out.Missing = "it has no figures that these could be compared with"
		return out, nil
	}
	was, _ := json.Marshal(recorded) // both are figures
	is, _ := json.Marshal(report)
	out.Reproduced = string(was) == string(is)
	if !out.Reproduced {
		for _, c := range recorded.Comparisons {
			out.Lines = append(out.Lines, "recorded: "+comparisonText(c))
		}
	}
	return out, nil
}

// Text is the verdict in words.
func (r Reproduction) Text() string {
	var b strings.Builder
	verdict := "reproduced"
	switch {
	case r.Missing != "":
		verdict = "cannot be: " + r.Missing
	case !r.Reproduced:
		verdict = "not reproduced"
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Level, verdict)
	for _, line := range r.Lines {
		fmt.Fprintf(&b, "  %s\n", printable.Line(line))
	}
	fmt.Fprintf(&b, "  it shows %s\n", r.Proves)
	return b.String()
}

// Compared returns the reproduction with what became of the run again: the same outcome, and of one that failed the
// same cause.
func (r Reproduction) Compared(
	red, again *Record, reasons func(step pipeline.ID, was, is pipeline.Facts) []pipeline.Change,
) Reproduction {
	was, is := Summarize(red), Summarize(again)
	r.Reproduced = was.Outcome == is.Outcome && sameCause(was, is)
	r.Lines = append(r.Lines, outcomeText("recorded", was), outcomeText("here", is))
	r.Parity = is.Parity
	for _, d := range Diff(red, again, reasons).Differs {
		if d.Area != Asked && d.Area != Came {
			r.Lines = append(r.Lines, d.String())
		}
	}
	return r
}

// sameCause says whether two runs have the same cause. Of what is known by the kind of its error alone, or not at all,
// it is the same error, whatever paths and containers are named, and whichever of two steps met it first.
func sameCause(was, is Summary) bool {
	switch {
	case was.Cause == nil || is.Cause == nil:
		return was.Cause == is.Cause
	case was.Cause.ID != is.Cause.ID:
		return false
	case cause.IsGeneral(was.Cause.ID):
		return withoutNames(was.Error) == withoutNames(is.Error)
	default:
		return true
	}
}

// ownNames are what a text has of one run: its step and program, paths, containers, digests, times and numbers.
var ownNames = regexp.MustCompile(`^[a-z-]+: |\b[a-z_]+\.py: |\S*/\S*|dalirun-\S+|[0-9a-f]{12,}|\d+(\.\d+)?`)

func withoutNames(text string) string { return ownNames.ReplaceAllString(text, "…") }

func outcomeText(where string, s Summary) string {
	text := where + ": " + string(s.Outcome)
	if s.Cause != nil {
		text += ", " + s.Cause.ID + ": " + s.Cause.Text
	}
	return text
}
