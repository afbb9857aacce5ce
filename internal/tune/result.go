package tune

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
)

// Version is the version of the JSON form of a [Result]. It grows when a reader of the old form would go wrong.
const Version = 1

// A Result is what a search found, and what proves it.
type Result struct {
	Version int    `json:"version"`
	Program string `json:"dalirun,omitempty"` // version of the program
	Lane    string `json:"lane"`
	Load    Load   `json:"load"`
	// Serving is what belongs below `serving:` of dalirun.yaml: what was asked for, and what was found.
	Serving map[string]string `json:"serving"`
	Outcome
	// Written is the file that has it now; empty if none was to be written.
	Written string `json:"written,omitempty"`
}

// WriteJSON writes one JSON object, indented. It writes all of it at once, or nothing.
func (r Result) WriteJSON(w io.Writer) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}

// WriteText writes block, which is YAML, and as comments of YAML the table of all trials in Markdown: all of it can be
// put into a file as it is.
func (r Result) WriteText(w io.Writer, block string) error {
	var b strings.Builder
	if len(r.Serving) > 0 {
		b.WriteString(block)
	}
	say := func(text string) { b.WriteString(strings.TrimSuffix("# "+printable.Line(text), " ") + "\n") }
	say(r.verdict())
	say(r.Load.String() + ", " + r.Lane + " lane")
	if r.Written != "" {
		say("written to " + r.Written)
	}
	if len(r.Trials) > 0 {
		say("")
		for _, row := range r.rows() {
			say("| " + strings.Join(row, " | ") + " |")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is "dali-threads=1 is better than the start: 12.3 % (at least 8.1 %) more pictures/s".
func (r Result) verdict() string {
	text := "nothing better than the start was found"
	switch {
	case len(r.Trials) == 0 && !r.Interrupted:
		text = fmt.Sprintf("there was no time for a trial, which takes %.0f s here: give it more by --budget", r.TrialSeconds)
	case r.Proof != nil:
		what := "more pictures/s"
		if r.Load.Objective == Latency {
			what = "by 1 / median latency"
		}
		text = fmt.Sprintf("%s is better than the start: %s (at least %s) %s", r.Best, percent(r.Proof.Gain),
			percent(r.Proof.Least), what)
	}
	if r.Interrupted {
		text = "interrupted: " + text
	}
	return text
}

// String is "closed loop, 16 requests at a time, 2 s a measurement".
func (l Load) String() string {
	text := fmt.Sprintf("closed loop, %s at a time", printable.Count(l.Clients, "request"))
	if l.Objective == Latency {
		text = fmt.Sprintf("open loop, %.4g requests/s", l.Rate)
	}
	return fmt.Sprintf("%s: %s of one picture, %.3g s a measurement", l.Objective, text, l.WindowSeconds)
}

// rows are a row for each trial, and for the proof, with the means of their pairs.
func (r Result) rows() [][]string {
	rows := [][]string{
		{"candidate", "against", "pairs", "pictures/s", "p50 ms", "p99 ms", "gain", "at least", "verdict"},
		{"---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---"},
	}
	for i := range r.Trials {
		rows = append(rows, r.Trials[i].row(""))
	}
	if r.Proof != nil {
		rows = append(rows, r.Proof.row("proof: "))
	}
	return rows
}

// row has of each figure the candidate's mean, and the other's.
func (t Trial) row(kind string) []string {
	const inMillis = 1e3
	both := func(of func(Figures) float64) string {
		var candidate, against float64
		for _, p := range t.Pairs {
			candidate += of(p.Candidate) / float64(len(t.Pairs))
			against += of(p.Against) / float64(len(t.Pairs))
		}
		return fmt.Sprintf("%.4g, %.4g", candidate, against)
	}
	row := []string{kind + t.Candidate.String(), t.Against.String(), strconv.Itoa(len(t.Pairs)), "", "", "", "", ""}
	if len(t.Pairs) > 0 {
		row[3] = both(func(f Figures) float64 { return f.PicturesPerSecond })
		row[4] = both(func(f Figures) float64 { return f.P50Seconds * inMillis })
		row[5] = both(func(f Figures) float64 { return f.P99Seconds * inMillis })
		row[6] = percent(t.Gain)
	}
	if len(t.Pairs) >= pairs {
		row[7] = percent(t.Least)
	}
	verdict := string(t.Verdict)
	if t.Why != "" {
		verdict += ": " + strings.ReplaceAll(t.Why, "|", "/")
	}
	return append(row, verdict)
}
