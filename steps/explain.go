package steps

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// explain adds to fault the remedy for a known message in the container's output or in one of messages.
func (t *tail) explain(fault *pipeline.Fault, messages ...string) {
	t.mu.Lock()
	finder := t.finder // a copy, since messages are not the container's output
	t.mu.Unlock()
	for _, message := range messages {
		finder.Read(message)
	}
	if r, line, ok := finder.Found(); ok {
		addRemedy(fault, r, line)
		t.remedyID = r.ID
	}
}

// addRemedy adds to fault what the known message line means, what to do about it and whose turn it is. It adds the line
// itself if neither error nor tail contain it.
func addRemedy(fault *pipeline.Fault, r remedy.Remedy, line string) {
	quoted := slices.ContainsFunc(append(slices.Clone(fault.Tail), fault.Err.Error()),
		func(s string) bool { return strings.Contains(s, line) })
	if !quoted {
		fault.Tail = append([]string{line}, fault.Tail...)
	}
	fault.Err, fault.Hint = fmt.Errorf("%w: %s", fault.Err, r.Text), r.Hint
	if r.Kind == pipeline.Environment {
		fault.Kind = r.Kind
	}
	if r.ID == remedy.DiskFull {
		fault.Repeat = "" // the folders that the printed command needs would stay, and go on filling the disk
	}
}

// exitHint says what to do about a program that was killed in a container with a memory limit, in bytes.
func exitHint(exit container.Exit, limit int64) string {
	const killed = 137
	memoryHint := "its container may use " + bytesize.Format(limit) +
		": --memory raises that; where the container engine's machine has less, close other programs " +
		"or give that machine more"
	switch {
	case exit.OOM:
		return memoryHint
	case exit.Code == killed: // a container engine under load can lose the kernel's notice
		return "status 137 is a kill from outside, mostly for memory; if nobody else did it: " + memoryHint
	default:
		return ""
	}
}

// onHost replaces in text the paths of a container's inputs by their paths on the host.
func onHost(inputs []container.Mount, text string) string {
	inputs = slices.SortedFunc(slices.Values(inputs),
		func(a, b container.Mount) int { return cmp.Compare(len(b.Target), len(a.Target)) })
	return regexp.MustCompile(`[\w./-]+`).ReplaceAllStringFunc(text, func(path string) string {
		for _, m := range inputs {
			rest, ok := strings.CutPrefix(path, m.Target)
			if ok && (rest == "" || rest == "." || rest[0] == '/') { // a full stop ends the sentence
				return m.Source + rest
			}
		}
		return path
	})
}
