package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// The elements are those that Jenkins, GitLab and GitHub's report actions read; see
// https://github.com/testmoapp/junitxml for what they have in common.
type (
	junitSuites struct {
		XMLName xml.Name `xml:"testsuites"`
		junitCounts
		Name   string       `xml:"name,attr"`
		Suites []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Timestamp  string           `xml:"timestamp,attr,omitempty"`
		Properties *junitProperties `xml:"properties"`
		Cases      []junitCase      `xml:"testcase"`
	}
	junitCounts struct {
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Time     string `xml:"time,attr"` // seconds
	}
	junitProperties struct {
		List []junitProperty `xml:"property"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string     `xml:"classname,attr"`
		Name    string     `xml:"name,attr"`
		Time    string     `xml:"time,attr"` // seconds
		Failure *junitNote `xml:"failure,omitempty"`
		Error   *junitNote `xml:"error,omitempty"`
		Skipped *junitNote `xml:"skipped,omitempty"`
		Out     string     `xml:"system-out,omitempty"`
	}
	junitNote struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes JUnit XML: a suite of the steps, and one of the comparisons if there were any.
func (r Report) WriteJUnit(w io.Writer) error {
	steps := junitSuite{
		Name: "steps", junitCounts: junitCounts{Time: decimal(r.DurationSeconds)},
		Timestamp:  r.Started.UTC().Format(time.RFC3339),
		Properties: r.properties(),
	}
	for _, s := range r.Steps {
		steps.Cases = append(steps.Cases, s.junit())
	}
	if r.Error != "" && !r.stepFailed() { // else no case would be red
		steps.Cases = append(steps.Cases, junitCase{
			Class: "dalirun", Name: "run", Time: decimal(r.DurationSeconds),
			Error: &junitNote{Message: r.Error},
		})
	}
	suites := junitSuites{Name: "dalirun", Suites: []junitSuite{steps}}
	if r.Parity != nil {
		compared := junitSuite{Name: "parity", junitCounts: junitCounts{Time: decimal(0)}}
		for _, c := range r.Parity.Comparisons {
			compared.Cases = append(compared.Cases, junitComparison(c))
		}
		suites.Suites = append(suites.Suites, compared)
	}
	for i := range suites.Suites {
		suites.Suites[i].count()
		suites.add(suites.Suites[i].junitCounts)
	}
	suites.Time = decimal(r.DurationSeconds)

	b, err := xml.MarshalIndent(suites, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+printable.Text(string(b))+"\n")
	return err
}

func (r Report) stepFailed() bool {
	for _, s := range r.Steps {
		if s.State == pipeline.Failed {
			return true
		}
	}
	return false
}

func (r Report) properties() *junitProperties {
	var out junitProperties
	for _, p := range []junitProperty{
		{"run", r.Run},
		{"verdict", string(r.Verdict)},
		{"lane", r.Lane},
		{"images", r.ImageSource},
		{"release", r.Release},
		{"precision", r.Precision},
		{"weights", r.Weights},
	} {
		if p.Value != "" {
			out.List = append(out.List, p)
		}
	}
	return &out
}

func (s Step) junit() junitCase {
	c := junitCase{
		Class: "dalirun.steps", Name: string(s.ID), Time: decimal(s.Seconds),
		Out: strings.Join(s.Because, "\n"),
	}
	switch s.State {
	case pipeline.Failed:
		text := s.Error
		if s.Hint != "" {
			text += "\nhint: " + s.Hint
		}
		if len(s.LastOutput) > 0 {
			text += "\nlast output:\n" + strings.Join(s.LastOutput, "\n")
		}
		c.Failure = &junitNote{s.Error, text}
	case pipeline.Cancelled:
		c.Skipped = &junitNote{Message: "cancelled"}
	case pipeline.Skipped:
		c.Skipped = &junitNote{Message: s.Reason}
	case pipeline.Done, pipeline.Cached: // passed
	}
	return c
}

func junitComparison(c parity.Comparison) junitCase {
	text := strings.Join(held(c), "\n")
	out := junitCase{Class: "dalirun.parity", Name: string(c.Name), Time: decimal(0)}
	if c.OK {
		out.Out = text
	} else {
		out.Failure = &junitNote{strings.Join(c.Off, ", "), text}
	}
	return out
}

func (s *junitSuite) count() {
	for _, c := range s.Cases {
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
}

func (c *junitCounts) add(counts junitCounts) {
	c.Tests += counts.Tests
	c.Failures += counts.Failures
	c.Errors += counts.Errors
	c.Skipped += counts.Skipped
}

func decimal(s float64) string { return fmt.Sprintf("%.3f", s) }
