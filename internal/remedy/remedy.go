// Package remedy knows the error messages of a run's tools, and what a user can do about them.
package remedy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// Remedy is a known message, with its meaning in one sentence and what to do.
type Remedy struct {
	ID      string // short and stable: gpu-out-of-memory
	Tool    string // that prints it: trtexec, tritonserver, DALI, container engine, NVIDIA runtime, …
	Pattern *regexp.Regexp
	Text    string        // one sentence without a full stop
	Hint    string        // what to do, a command where there is one
	Kind    pipeline.Kind // Environment where the host is to be mended, else ContainerFailed
	Source  string        // where the message is from: a file of internal/tooltest, or an issue
}

// The IDs of remedies that steps treat specially.
const (
	DiskFull       = "disk-full"         // a disk of this host
	GPUOutOfMemory = "gpu-out-of-memory" // in TensorRT
)

// Find returns the remedy for a text of one or more lines, and the line that it explains.
func Find(text string) (r Remedy, line string, ok bool) {
	var f Finder
	for l := range strings.Lines(text) {
		f.Read(strings.TrimSpace(l))
	}
	return f.Found()
}

// A Finder reads the output of a program line by line, and keeps the known line that comes first in the table. The zero
// value is ready to use. It is not safe for concurrent use.
type Finder struct {
	rows  []Remedy // the rows of the table before the best one
	best  Remedy
	line  string
	found bool
}

// Read reads one line. It ignores lines that their tool marks as information or a warning, which are no reason for a
// failure.
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
	f.best, f.line, f.found = f.rows[i], line, true
	f.rows = f.rows[:i]
}

// Found returns the remedy for the lines that were read, and the line that it explains.
func (f *Finder) Found() (r Remedy, line string, ok bool) { return f.best, f.line, f.found }

// notErrors matches lines that are no errors: those that begin as "W1122 14:08:39.398219 1 …" or "[11/22/2026-14:05:18]
// [I] …", and a message that tritonserver prints for each ensemble on a machine without a GPU, which it then serves.
var notErrors = regexp.MustCompile(`^[IW]\d{4} \d\d:\d\d:\d\d` +
	`|^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] (\[TRT\] )?\[[VIW]\]` +
	`|ensemble_scheduler\.cc:\d+\] "unable to create stream for `)

// table returns all rows. Of several that match, the first one is used: causes come first, and their consequences last.
func table() []Remedy {
	return slices.Concat(hostRows(), gpuRows(), engineRows(), serverRows(), consequenceRows())
}
