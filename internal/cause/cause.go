// Package cause says why a run failed and whose turn it is, by plain data that a record keeps: the error, the last
// output, the comparisons, the kernel's log. The same data give the same cause on any machine.
package cause

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// Turn says whose turn it is.
type Turn string

// The turns.
const (
	// Product is what is built and how: model, weights, picture, flags, dalirun itself. Whoever changed it last acts.
	Product Turn = "product"
	// Environment is the machine and what it may do: driver, container engine, disk, ports, credentials, certificates.
	// Whoever runs it acts.
	Environment Turn = "environment"
	// Infrastructure is what comes and goes: networks, registries and mirrors, a GPU that others have or that fell off
	// its bus, a runner that was killed. Nobody who reads this has to act, if it does not come again.
	Infrastructure Turn = "infrastructure"
	// Unknown is the turn where nothing that is known matches.
	Unknown Turn = "unknown"
)

// Cause is why a run failed.
type Cause struct {
	ID        string      `json:"id"` // short and stable: gpu-out-of-memory
	Turn      Turn        `json:"turn"`
	Retryable bool        `json:"retryable"`      // the same run may pass without a change
	Text      string      `json:"text"`           // one sentence without a full stop
	Seen      string      `json:"seen,omitempty"` // the line that shows it
	Hint      string      `json:"hint,omitempty"` // what to do
	Step      pipeline.ID `json:"step,omitempty"` // that failed; empty if the run did not get so far
}

// Evidence is what is known of a run that failed.
type Evidence struct {
	// Failure is the error; nil if the run was killed before it had one.
	Failure *Failure
	// Step is the one that worked when the run was killed.
	Step pipeline.ID
	// Check is the check of doctor that refused the run; empty if it began.
	Check string
	// Log is the output of the step that failed.
	Log string
	// Names are what the user chose: files, folders, images. Their words tell nothing of the run.
	Names []string
	// NoGPU says that the run was to use none: whatever a tool says of GPUs and their driver then is no reason.
	NoGPU bool
	// GPUs are the bus addresses of the GPUs of the run, 00000000:06:00.0; nil if it had none, or they are not known.
	GPUs []string
	// Kernel are lines of the kernel's log from the time of the run.
	Kernel []string
	// OthersOnGPU are, for people, other programs that used the GPU.
	OthersOnGPU []string
	// Parity are the comparisons, and Preprocessing what [parity.PreprocessingCause] says of the tensors.
	Parity        *parity.Report
	Preprocessing string
}

// Find returns the cause of a failure. Its Turn is [Unknown] if nothing that is known matches.
func Find(e Evidence) Cause {
	f := e.Failure
	if f == nil {
		f = &Failure{Step: e.Step}
	}
	lines := append([]string{f.Text}, f.Tail...)
	told := e.told(lines)
	e.Log = e.told([]string{e.Log})[0]
	for _, r := range rules() {
		seen, ok := r.matches(e, f, lines, told)
		if !ok {
			continue
		}
		found := r.cause
		found.Seen, found.Step, found.Hint = seen, f.Step, cmp.Or(f.Hint, r.cause.Hint)
		if r.tell != nil {
			found.Text = r.tell(e, found.Text)
		}
		return found
	}
	return unknown(f)
}

// told returns lines without the names that the user chose.
func (e Evidence) told(lines []string) []string {
	var pairs []string
	for _, name := range slices.SortedFunc(slices.Values(e.Names), func(a, b string) int { return len(b) - len(a) }) {
		const shortest = 4 // a number, or a word such as "cpu", says no more as a name than elsewhere
		for _, written := range []string{name, path.Base(name)} {
			if len(written) >= shortest && strings.ContainsAny(written, " ./") {
				pairs = append(pairs, written, "…")
			}
		}
	}
	without := strings.NewReplacer(pairs...)
	told := make([]string, len(lines))
	for i, line := range lines {
		told[i] = without.Replace(line)
	}
	return told
}

// IsGeneral says that a cause is what is known of an error by its kind alone, or nothing: two of it may be two.
func IsGeneral(id string) bool {
	return id == unknownID || slices.ContainsFunc(kindRules(), func(r rule) bool { return r.cause.ID == id })
}

const unknownID = "unknown"

func unknown(f *Failure) Cause {
	return Cause{
		ID: unknownID, Turn: Unknown, Text: "nothing that is known matches", Seen: f.Text, Hint: f.Hint, Step: f.Step,
	}
}

// concerns says whether a line of the kernel is of a GPU of the run, or of no GPU. The kernel writes an address as
// PCI:0000:06:00, and nvidia-smi as 00000000:06:00.0.
func (e Evidence) concerns(line string) bool {
	_, rest, ofGPU := strings.Cut(line, "(PCI:")
	if !ofGPU {
		return true
	}
	address, _, _ := strings.Cut(rest, ")")
	return slices.ContainsFunc(e.GPUs, func(gpu string) bool {
		whole, _, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(gpu), "0000"), ".")
		return whole == strings.ToLower(address)
	})
}

// rule is one row of the table: all of its conditions that are set must hold.
type rule struct {
	cause Cause

	killed   bool                  // there is no error: the run was killed
	is       []string              // the error is one of these sentinels
	registry []registry.Kind       // or of a registry, of one of these kinds
	kinds    []pipeline.Kind       // of the fault
	checks   []string              // of doctor, that refused the run
	inStep   bool                  // the run had begun
	says     *regexp.Regexp        // the error or the last output
	kernel   *regexp.Regexp        // the kernel's log
	remedy   func(id string) bool  // a known message of a tool in the error, the last output or the log
	ofGPU    bool                  // what that message says is of a GPU
	when     func(e Evidence) bool // what else
	tell     func(e Evidence, text string) string
}

// matches reports whether the rule is about a failure, and which of the lines shows it. told are the lines by which
// words are found: those without the user's names.
func (r rule) matches(e Evidence, f *Failure, lines, told []string) (seen string, ok bool) {
	if r.killed != (e.Failure == nil) && r.kernel == nil || !r.fits(e, f) {
		return "", false
	}
	seen = f.Text
	if r.says != nil {
		i := slices.IndexFunc(told, r.says.MatchString)
		if i < 0 {
			return "", false
		}
		seen = lines[i]
	}
	if r.kernel != nil {
		i := slices.IndexFunc(e.Kernel, func(line string) bool { return r.kernel.MatchString(line) && e.concerns(line) })
		if i < 0 {
			return "", false
		}
		seen = e.Kernel[i]
	}
	if r.remedy != nil {
		known, line, found := remedy.Find(strings.Join(append(slices.Clone(told), e.Log), "\n"))
		if !found || !r.remedy(known.ID) || e.NoGPU && r.ofGPU {
			return "", false
		}
		seen = line
	}
	return seen, true
}

// fits says whether the error is of the kinds that the rule is about, and the run.
func (r rule) fits(e Evidence, f *Failure) bool {
	named := func(s string) bool { return slices.Contains(f.Sentinels, s) }
	// What is wrong with these is known, whatever words a name or a program's output brings.
	decided := f.Kind == pipeline.Usage || f.Kind == pipeline.NotVerified || f.Kind == pipeline.GateFailed
	switch {
	case decided && (r.says != nil || r.remedy != nil):
		return false
	case r.is != nil && !slices.ContainsFunc(r.is, named),
		r.registry != nil && !slices.Contains(r.registry, f.Registry),
		r.kinds != nil && !slices.Contains(r.kinds, f.Kind),
		r.checks != nil && !slices.Contains(r.checks, e.Check),
		r.inStep && f.Step == "":
		return false
	}
	return r.when == nil || r.when(e)
}
