// Package remedy knows what the tools of a run say when they fail, and what a user can do about it.
package remedy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// Remedy is a known message: what it means in one sentence, and what to do.
type Remedy struct {
	ID      string // short and stable: gpu-out-of-memory
	Tool    string // who says it: trtexec, tritonserver, DALI, container engine, NVIDIA runtime, …
	Pattern *regexp.Regexp
	Text    string        // one sentence without a full stop
	Hint    string        // what to do, a command where there is one
	Kind    pipeline.Kind // Environment where the host is to be mended, else ContainerFailed
	Source  string        // where the message is from: a file of internal/tooltest, or an issue
}

// The IDs of remedies that a step adds to.
const (
	DiskFull       = "disk-full"         // a disk of this host
	GPUOutOfMemory = "gpu-out-of-memory" // in TensorRT
)

// Find returns the remedy for a text of one or more lines, and the line that it is for.
func Find(text string) (r Remedy, line string, ok bool) {
	var f Finder
	for l := range strings.Lines(text) {
		f.Read(strings.TrimSpace(l))
	}
	return f.Found()
}

// A Finder reads the output of a program as it comes and keeps the line that says most. The zero value is ready to use. It is
// not safe for concurrent use.
type Finder struct {
	rows []Remedy // those that say more than what was found
	best Remedy
	line string
	seen bool
}

// Read looks at one line. What its own tool calls a piece of information or a warning is no reason of a failure.
func (f *Finder) Read(line string) {
	if f.rows == nil {
		f.rows = table()
	}
	if notErrors.MatchString(line) {
		return
	}
	i := slices.IndexFunc(f.rows, func(r Remedy) bool { return r.Pattern.MatchString(line) })
	if i < 0 {
		return
	}
	f.best, f.line, f.seen = f.rows[i], line, true
	f.rows = f.rows[:i]
}

// Found returns the remedy for what was read, and the line that it is for.
func (f *Finder) Found() (r Remedy, line string, ok bool) { return f.best, f.line, f.seen }

// notErrors are how lines that are none begin: "W1122 14:08:39.398219 1 …" and "[11/22/2026-14:05:18] [I] …"; and an error by name
// that tritonserver prints for each ensemble on a machine without a GPU, before it serves it.
var notErrors = regexp.MustCompile(`^[IW]\d{4} \d\d:\d\d:\d\d` +
	`|^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] (\[TRT\] )?\[[VIW]\]` +
	`|ensemble_scheduler\.cc:\d+\] "unable to create stream for `)

// table holds every row. Of several that match the earlier one is told: causes come first, what they lead to last.
func table() []Remedy {
	return slices.Concat(hostRows(), gpuRows(), engineRows(), serverRows(), consequenceRows())
}
