package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/printable"
)

// LockProof is what came of two locks of one project: each was built and served once.
type LockProof struct {
	File    string // the lock's
	Changes []lock.Change
	Was, Is LockRun
}

// LockRun is a lock that was built and served.
type LockRun struct {
	Lock            lock.Lock
	Report          Report  // of the run that served and verified it
	BuildSeconds    float64 // of the steps that build, one after another
	RepositoryBytes int64   // of the model repository
	Error           string  // why it could not be run; the rest is as far as it came
	// Doubts say in what the run was not that of its lock: packages that Debian's archive has no more cannot be had again.
	Doubts []string
}

// WritePullRequest writes the text of a pull request, as Markdown: a title in the first line, what changes, and what
// the new lock does in comparison with the old one.
func (p LockProof) WritePullRequest(w io.Writer) error {
	var b strings.Builder
	title := "Renew " + p.File
	if was, is := p.Was.Lock.Release, p.Is.Lock.Release; was != is && is != "" {
		title = "Move to release " + is
	}
	fmt.Fprintf(&b, "# %s\n\n", title)
	p.writeChanges(&b)
	b.WriteString("\n## Proof\n\nThe models of each lock were built anew, served, and compared with PyTorch, ")
	fmt.Fprintf(&b, "with dalirun %s: %s.\n", p.Is.Report.Program, p.Is.Report.setting())
	b.WriteString("Times are those of one run each.\n\n| | was | is |\n|---|---|---|\n")
	for _, row := range p.rows() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row[0], cell(row[1]), cell(row[2]))
	}
	if p.Was.Error != "" {
		fmt.Fprintf(&b, "\nThe old lock could not be run: %s\n", printable.Line(p.Was.Error))
	}
	for _, of := range []struct {
		name string
		run  LockRun
	}{{"old", p.Was}, {"new", p.Is}} {
		for _, doubt := range of.run.Doubts {
			fmt.Fprintf(&b, "\nWhat was run for the %s lock is not wholly it: %s\n", of.name, printable.Line(doubt))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeChanges writes a row for each fact, packages last and folded where there are many.
func (p LockProof) writeChanges(b *strings.Builder) {
	const head, many = "| fact | was | is |\n|---|---|---|\n", 10
	var facts, packages []lock.Change
	for _, c := range p.Changes {
		if strings.HasPrefix(c.Fact, "package ") {
			packages = append(packages, c)
		} else {
			facts = append(facts, c)
		}
	}
	fmt.Fprintf(b, "## What changes\n\n")
	write := func(changes []lock.Change) {
		b.WriteString(head)
		for _, c := range changes {
			fmt.Fprintf(b, "| %s | %s | %s |\n", c.Fact, cell(lock.Short(c.Was)), cell(lock.Short(c.Is)))
		}
	}
	if len(packages) <= many {
		write(append(facts, packages...))
		return
	}
	if len(facts) > 0 {
		write(facts)
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "<details><summary>%s</summary>\n\n", printable.Count(len(packages), "package"))
	write(packages)
	b.WriteString("\n</details>\n")
}

// rows are the figures of both runs.
func (p LockProof) rows() [][3]string {
	row := func(name string, of func(LockRun) string) [3]string { return [3]string{name, of(p.Was), of(p.Is)} }
	rows := [][3]string{row("verdict", func(r LockRun) string { return string(r.Report.Verdict) })}
	for _, name := range []parity.Name{parity.Preprocessing, parity.Model, parity.Ensemble} {
		rows = append(rows, row(string(name), func(r LockRun) string { return comparisonOf(r.Report, name) }))
	}
	rows = append(rows,
		row("build", func(r LockRun) string { return unlessZero(r.BuildSeconds, seconds) }),
		row("time to ready", func(r LockRun) string { return unlessZero(r.Report.TimeToReadySeconds, seconds) }),
		row("engine", func(r LockRun) string {
			if r.Report.Engine == nil {
				return ""
			}
			return bytesize.Format(r.Report.Engine.Bytes)
		}),
		row("model repository", func(r LockRun) string { return unlessZero(r.RepositoryBytes, bytesize.Format) }),
	)
	var told [][3]string
	for _, r := range rows { // the cpu lane has no engine
		if r[1] != "" || r[2] != "" {
			told = append(told, r)
		}
	}
	return told
}

// comparisonOf says a comparison of a run in one cell; empty if it was not made.
func comparisonOf(r Report, name parity.Name) string {
	if r.Parity == nil {
		return ""
	}
	for _, c := range r.Parity.Comparisons {
		if c.Name == name {
			row := comparisonRow(c)
			return row[1] + ": " + row[2]
		}
	}
	return ""
}

func unlessZero[T comparable](value T, format func(T) string) string {
	if value == *new(T) {
		return ""
	}
	return format(value)
}

// cell is a text in a table of Markdown.
func cell(text string) string {
	if text == "" {
		return "–"
	}
	return strings.ReplaceAll(printable.Line(text), "|", `\|`)
}
