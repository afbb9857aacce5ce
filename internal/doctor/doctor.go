// Package doctor examines a machine before a run, and says what would stop the run.
//
// [Checks] is the list of its checks. Whether a run would begin is decided by [target.Resolve] alone: a check shows the
// obstacles that name it, and what it found itself.
package doctor

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
)

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // a run works, but may differ from what the user wants
	Fail Status = "fail" // a run would fail
)

// Finding is the result of a check, and what to do about it. It is zero for a check that does not apply.
type Finding struct {
	Check  target.CheckID `json:"check"`
	Status Status         `json:"status"`
	Saw    string         `json:"saw"`
	Remedy string         `json:"remedy,omitempty"`
}

// The checks that show no [target.Obstacle], of what a run finds out as it goes.
const (
	checkPlatform      target.CheckID = "platform"
	checkGPUMemory     target.CheckID = "gpu memory"
	checkCacheDisk     target.CheckID = "cache disk"
	checkWorkspaceDisk target.CheckID = "workspace disk"
)

// Check examines one thing that a run needs.
type Check struct {
	Name  target.CheckID
	Needs []Need // all must be met, or the check is skipped
	Run   func(*Examination) Finding
}

// Need is a condition under which a check applies.
type Need string

// The needs of checks.
const (
	anEngine        Need = "a container engine that answers"
	aLane           Need = "the lane"
	aGPU            Need = "the gpu lane"
	ngc             Need = "NVIDIA's images"
	inspectedImages Need = "images that were looked at"
	aCache          Need = "a cache that can be opened"
)

// Checks returns all checks, in the order in which they are shown. They run concurrently.
func Checks() []Check {
	return []Check{
		// The container engine answers, and this user may talk to it.
		{target.CheckEngine, nil, (*Examination).engine},
		// The operating system, and whether it is WSL.
		{checkPlatform, nil, (*Examination).platform},
		// The GPUs that --gpus names are there, are alike, and may be used.
		{target.CheckGPU, []Need{aLane}, (*Examination).gpu},
		// A release of NVIDIA's images runs on this driver and GPU.
		{target.CheckRelease, []Need{aLane, ngc}, (*Examination).release},
		// The container engine can give GPUs to containers.
		{target.CheckContainerGPU, []Need{anEngine, aGPU}, (*Examination).access},
		// The GPU has enough free memory to build an engine.
		{checkGPUMemory, []Need{aGPU}, (*Examination).gpuMemory},
		// Both images can be had, and fit each other and this host.
		{target.CheckImages, []Need{inspectedImages, aCache}, (*Examination).images},
		// Both images fit where the container engine stores images.
		{target.CheckImageDisk, []Need{anEngine, aLane}, (*Examination).imageDisk},
		// The results of the steps can be kept in the cache, and fit.
		{checkCacheDisk, nil, (*Examination).cacheDisk},
		// The logs of runs can be kept in the workspace, and fit.
		{checkWorkspaceDisk, nil, (*Examination).workspaceDisk},
		// The ports that were named are free; for the usual ones others can be taken.
		{target.CheckPorts, nil, (*Examination).ports},
		// The weights can be had.
		{target.CheckWeights, nil, (*Examination).weights},
		// The run is that of its lock, where there is one.
		{target.CheckLock, nil, (*Examination).lock},
		// A run has a use for each flag that was named.
		{target.CheckFlags, nil, (*Examination).flags},
	}
}

// Within bounds all checks together. The longest chain of waits is nvidia-smi's SMIWithin, or the container engine's
// EngineWithin, and then AnswerWithin, or the registry's 3 s.
const Within = 9500 * time.Millisecond

const (
	// EngineWithin bounds the first answer of the container engine; the adapter waits for 2 s on this host.
	EngineWithin = 5 * time.Second
	// AnswerWithin bounds each further answer of the container engine, as about an image. A run waits longer for it.
	AnswerWithin = 3 * time.Second
	// SMIWithin bounds nvidia-smi. A run waits longer for it, since with persistence mode off each of several calls may
	// take seconds.
	SMIWithin = 6 * time.Second
)

// Examine runs the checks concurrently. A check that has not ended when ctx does has failed, since a run would wait as
// well.
func Examine(ctx context.Context, p Patient) (*Examination, []Finding) {
	x := newExamination(ctx, p)
	checks := Checks()
	answers := make([]chan Finding, len(checks))
	for i, c := range checks {
		answers[i] = make(chan Finding, 1)
		go func() { answers[i] <- x.examine(c) }()
	}
	var findings []Finding
	for i, c := range checks {
		var f Finding
		select {
		case f = <-answers[i]:
		case <-ctx.Done():
			select {
			case f = <-answers[i]: // the check ended at the same time
			default:
				f = Finding{Status: Fail, Saw: context.Cause(ctx).Error()}
			}
		}
		if f.Status != "" {
			f.Check = c.Name
			findings = append(findings, f)
		}
	}
	return x, findings
}

// examine returns the finding of a check, with the obstacles that it shows.
func (x *Examination) examine(c Check) Finding {
	var f Finding
	if !slices.ContainsFunc(c.Needs, func(n Need) bool { return !x.meets(n) }) {
		f = c.Run(x)
	}
	for _, o := range x.obstacles(c.Name) {
		switch {
		case !o.Doubt && f.Status == Fail: // the check itself found it
		case !o.Doubt:
			return Finding{Status: Fail, Saw: o.Err.Error(), Remedy: o.Remedy}
		default:
			f = f.withDoubt(o)
		}
	}
	return f
}

// withDoubt returns f with a doubt added.
func (f Finding) withDoubt(doubt target.Obstacle) Finding {
	switch text := doubt.Err.Error(); {
	case f.Saw == "":
		f.Saw = text
	case !strings.Contains(f.Saw, text):
		f.Saw += "; " + text
	}
	if f.Status != Fail {
		f.Status = Warn
	}
	switch {
	case f.Remedy == "":
		f.Remedy = doubt.Remedy
	case doubt.Remedy != "" && !strings.Contains(f.Remedy, doubt.Remedy):
		f.Remedy += "; " + doubt.Remedy
	}
	return f
}

// Summary says in one line whether a run with the same flags would begin.
func Summary(findings []Finding) string {
	n := map[Status]int{}
	for _, f := range findings {
		n[f.Status]++
	}
	ready := "ready"
	var parts []string
	if n[Fail] > 0 {
		ready = "not ready"
		parts = append(parts, fmt.Sprintf("%d failed", n[Fail]))
	}
	if n[Warn] > 0 {
		parts = append(parts, printable.Count(n[Warn], "warning"))
	}
	return ready + ": " + strings.Join(append(parts, fmt.Sprintf("%d ok", n[OK])), ", ")
}

// indented puts further lines of what a check saw below the first one.
func indented(saw string) string { return strings.ReplaceAll(saw, "\n", "\n"+strings.Repeat(" ", 24)) }

// WriteText writes the findings for people, and after them the [Summary].
func WriteText(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-4s  %-16s  %s\n", f.Status, f.Check, indented(f.Saw)); err != nil {
			return err
		}
		if f.Remedy != "" {
			if _, err := fmt.Fprintf(w, "%24s%s\n", "", f.Remedy); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", Summary(findings))
	return err
}
