package ui

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// Error prints err once: what failed after how long, the last output, how to repeat it by hand, what to do next, and
// the step's log if logPath, which may be nil, names one. Of joined errors each is printed once, and a fault with which
// a step ended as that step's alone. A cancellation is left out beside an error: it is a consequence. Under GitHub
// Actions the first line and the hint are an annotation.
func Error(w io.Writer, err error, t Terminal, logPath func(pipeline.ID) string) {
	if err == nil {
		return
	}
	var blocks []string
	seen := map[string]bool{}
	for _, e := range withoutConsequences(flatten(err)) {
		b := block(e, t, logPath)
		if !seen[b] {
			seen[b] = true
			blocks = append(blocks, b)
		}
	}
	_, _ = io.WriteString(w, strings.Join(blocks, "")) // there is nowhere left to tell of it
}

// flatten takes errors.Join apart, under a step's name too. An error that words several others itself stays whole.
func flatten(err error) []error {
	if step, ok := errors.AsType[*pipeline.StepError](err); ok && step.Error() == err.Error() {
		parts := flatten(step.Err)
		if len(parts) < 2 {
			return []error{err}
		}
		out := make([]error, len(parts))
		for i, p := range parts {
			out[i] = &pipeline.StepError{Step: step.Step, Elapsed: step.Elapsed, Err: p}
		}
		return out
	}
	joined, ok := err.(interface{ Unwrap() []error }) // of this very error, not of one inside it
	if !ok {
		return []error{err}
	}
	var texts []string
	var out []error
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
		out = append(out, flatten(e)...)
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	return out
}

// withoutConsequences leaves out what only says that it was cancelled, if there is more, and what is no step's and has
// the fault with which a step ended.
func withoutConsequences(errs []error) []error {
	isCancelled := func(e error) bool { return errors.Is(e, context.Canceled) }
	if causes := slices.DeleteFunc(slices.Clone(errs), isCancelled); len(causes) > 0 {
		errs = causes
	}
	faults := map[*pipeline.Fault]bool{} // with which steps ended
	faultOf := func(e error) (fault *pipeline.Fault, isStep bool) {
		_, isStep = errors.AsType[*pipeline.StepError](e)
		fault, _ = errors.AsType[*pipeline.Fault](e)
		return fault, isStep
	}
	for _, e := range errs {
		if fault, isStep := faultOf(e); isStep && fault != nil {
			faults[fault] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(errs), func(e error) bool {
		fault, isStep := faultOf(e)
		return !isStep && faults[fault]
	})
}

func block(err error, t Terminal, logPath func(pipeline.ID) string) string {
	step, _ := errors.AsType[*pipeline.StepError](err)
	fault, _ := errors.AsType[*pipeline.Fault](err)
	if fault == nil {
		fault = &pipeline.Fault{}
	}
	what := headline(err, step)

	var b strings.Builder
	if t.GitHubActions {
		text, title := what, "dalirun"
		if fault.Hint != "" {
			text += "\nhint: " + fault.Hint
		}
		if step != nil {
			title = string(step.Step) + " failed"
		}
		b.WriteString(command("error", title, cleanLines(text)))
	} else {
		first, rest, _ := strings.Cut(cleanLines(what), "\n")
		b.WriteString(t.palette().red("✗") + " " + first + "\n")
		indent(&b, "  ", rest)
	}
	if len(fault.Tail) > 0 {
		b.WriteString("  last output:\n")
		for _, l := range fault.Tail {
			l = printable.Line(l)
			if t.GitHubActions {
				l = "| " + harmless(l)
			}
			b.WriteString("    " + l + "\n")
		}
	}
	field(&b, "repeat it by hand, until the next run", fault.Repeat) // which sweeps what the line mounts
	if !t.GitHubActions {
		field(&b, "hint", fault.Hint)
	}
	if step != nil && logPath != nil {
		field(&b, "full log", logPath(step.Step))
	}
	return b.String()
}

// headline returns "build-engine failed after 41s: trtexec exited with status 1".
func headline(err error, step *pipeline.StepError) string {
	text := err.Error()
	if step == nil {
		return text
	}
	around, ok := strings.CutSuffix(text, step.Error())
	if !ok {
		return text
	}
	return around + string(step.Step) + " failed after " + elapsed(step.Elapsed) + ": " + step.Err.Error()
}

func field(b *strings.Builder, name, text string) {
	if text == "" {
		return
	}
	first, rest, _ := strings.Cut(cleanLines(text), "\n")
	b.WriteString("  " + name + ": " + first + "\n")
	indent(b, "    ", rest)
}

func indent(b *strings.Builder, by, text string) {
	if text == "" {
		return
	}
	for l := range strings.SplitSeq(text, "\n") {
		b.WriteString(by + l + "\n")
	}
}

// cleanLines cleans each line of s and drops blank ones.
func cleanLines(s string) string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		if l = printable.Line(l); strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}
