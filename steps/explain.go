package steps

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// explain tells fault what the output means, if it is known, or one of the other words.
func (t *tail) explain(fault *pipeline.Fault, others ...string) {
	t.mu.Lock()
	known := t.known // a copy: others are not the container's
	t.mu.Unlock()
	for _, words := range others {
		known.Read(words)
	}
	if r, line, ok := known.Found(); ok {
		tell(fault, r, line)
		t.remedyID = r.ID
	}
}

// tell adds a known message to fault: what it means, what to do, whose turn it is, and the line itself where the output's last ones
// lack it.
func tell(fault *pipeline.Fault, r remedy.Remedy, line string) {
	said := slices.ContainsFunc(append(slices.Clone(fault.Tail), fault.Err.Error()), func(s string) bool { return strings.Contains(s, line) })
	if !said {
		fault.Tail = append([]string{line}, fault.Tail...)
	}
	fault.Err, fault.Hint = fmt.Errorf("%w: %s", fault.Err, r.Text), r.Hint
	if r.Kind == pipeline.Environment {
		fault.Kind = r.Kind
	}
	if r.ID == remedy.DiskFull {
		fault.Repeat = "" // what the line needs would stay, and go on filling the disk
	}
}

// exitHint says what to do about a program that was killed in a container with a memory limit, in bytes.
func exitHint(exit container.Exit, limit int64) string {
	const killed = 137
	more := "its container may use " + bytesize.Format(limit) + ": --memory raises that; where the container engine's machine has less, close other programs " +
		"or give that machine more"
	switch {
	case exit.OOM:
		return more
	case exit.Code == killed: // a container engine under load can lose the kernel's notice
		return "status 137 is a kill from outside, mostly for memory; if nobody else did it: " + more
	default:
		return ""
	}
}

// onHost puts the host's paths in the place of those that a container has for them.
func onHost(inputs []container.Mount, text string) string {
	inputs = slices.SortedFunc(slices.Values(inputs), func(a, b container.Mount) int { return cmp.Compare(len(b.Target), len(a.Target)) })
	return regexp.MustCompile(`[\w./-]+`).ReplaceAllStringFunc(text, func(path string) string {
		for _, m := range inputs {
			rest, ok := strings.CutPrefix(path, m.Target)
			if ok && (rest == "" || rest == "." || rest[0] == '/') { // a full stop is the sentence's
				return m.Source + rest
			}
		}
		return path
	})
}

// runtimeFault says that it is the environment's turn where a container runtime did not do its part. A fault stays what it is.
func runtimeFault(err error) error {
	if _, ok := errors.AsType[*pipeline.Fault](err); ok {
		return err
	}
	fault := &pipeline.Fault{Kind: pipeline.Environment, Err: err}
	switch {
	case errors.Is(err, container.ErrNoGPU):
		fault.Hint = remedy.InstallToolkit + "; or " + remedy.UseCPU
		if r, _, ok := remedy.Find(err.Error()); ok {
			fault.Err, fault.Hint = fmt.Errorf("%s: %w", r.Text, err), r.Hint // the container engine's words are long, and others' come first
		}
	case errors.Is(err, container.ErrNoInit):
		fault.Hint = remedy.InstallInit
	case errors.Is(err, container.ErrPortTaken):
		fault.Hint = remedy.FreePort
	case errors.Is(err, container.ErrNoSpace):
		fault.Hint = remedy.FreeEngineDisk
	case errors.Is(err, container.ErrUnreachable), errors.Is(err, container.ErrPermission):
	default:
		return err
	}
	return fault
}
