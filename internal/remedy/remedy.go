// Package remedy knows what the tools of a run say when they fail, and what a user can do about it.
package remedy

import (
	"regexp"

	"github.com/dalirun/dalirun/pipeline"
)

// Remedy is a known message: what it means in one sentence, and what to do.
type Remedy struct {
	ID      string // short and stable: gpu-out-of-memory
	Tool    string // who says it: trtexec, tritonserver, DALI, container engine, NVIDIA runtime
	Pattern *regexp.Regexp
	Text    string // one sentence without a full stop
	Hint    string // what to do, a command where there is one
	Kind    pipeline.Kind
	Source  string // where the message is from: a file of testdata, or an issue
}

// Find returns the remedy for a line of output.
func Find(line string) (Remedy, bool) {
	for _, r := range table() {
		if r.Pattern.MatchString(line) {
			return r, true
		}
	}
	return Remedy{}, false
}

func table() []Remedy { return nil }
