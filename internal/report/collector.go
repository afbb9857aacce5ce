package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
)

// Collector is a sink that builds a [Report]. Its zero value is ready. It serves one run.
type Collector struct {
	// ExitCode returns the exit code of an error; set it before the first event. Without it every error has 1. A run whose
	// code is above 128, those of signals, was cancelled.
	ExitCode func(error) int
	// Program is the version of the program, for the report.
	Program string

	mu     sync.Mutex
	report Report
	steps  map[pipeline.ID]*Step
	began  map[pipeline.ID]time.Time // of steps that work
	ended  bool
}

// Emit takes e over.
func (c *Collector) Emit(e pipeline.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch x := e.Payload.(type) {
	case pipeline.RunStarted:
		c.report.Run, c.report.Started = e.Run, e.Time
		c.report.Lane, c.report.LaneReason, c.report.ImageSource = x.Facts[FactLane], x.Facts[FactReason], x.Facts[FactImages]
		c.report.Release, c.report.Precision = x.Facts[FactRelease], x.Facts[FactPrecision]
		c.report.Model, c.report.Weights = x.Facts[FactModel], x.Facts[FactWeights]
		for _, id := range x.Steps {
			c.step(id)
		}
	case pipeline.Decided:
		s := c.step(e.Step)
		s.Because = nil
		for _, change := range x.Because {
			s.Because = append(s.Because, change.String())
		}
	case pipeline.Started:
		c.step(e.Step).StartSeconds = max(0, e.Time.Sub(c.report.Started).Seconds())
		c.began[e.Step] = e.Time
	case pipeline.Warning:
		c.warn(e.Step, x.Text)
	case pipeline.Result:
		c.result(e.Step, x)
	case pipeline.Ended:
		c.end(e.Step, x)
	case pipeline.RunEnded:
		c.endRun(e, x)
	case pipeline.Line, pipeline.Progress: // are for those who watch
	}
}

func (c *Collector) step(id pipeline.ID) *Step {
	if c.steps == nil {
		c.steps, c.began = map[pipeline.ID]*Step{}, map[pipeline.ID]time.Time{}
	}
	s := c.steps[id]
	if s == nil {
		s = &Step{ID: id}
		c.steps[id] = s
		c.report.Steps = append(c.report.Steps, Step{ID: id})
	}
	return s
}

func (c *Collector) warn(step pipeline.ID, text string) {
	if step != "" {
		text = string(step) + ": " + text
	}
	if !slices.Contains(c.report.Warnings, text) {
		c.report.Warnings = append(c.report.Warnings, text)
	}
}

func (c *Collector) result(step pipeline.ID, x pipeline.Result) {
	var err error
	switch x.Name {
	case string(result.Top):
		c.report.Top, err = take(result.Top, x)
	case string(result.Parity):
		c.report.Parity, err = pointer(take(result.Parity, x))
	case string(result.TimeToReady):
		c.report.TimeToReadySeconds, err = take(result.TimeToReady, x)
	case string(result.GPUs):
		c.report.GPUs, err = take(result.GPUs, x)
	case string(result.Engine):
		c.report.Engine, err = pointer(take(result.Engine, x))
	case string(result.Repository):
		c.report.Repository, err = take(result.Repository, x)
	case string(result.Pull):
		c.report.Pulled, err = take(result.Pull, x)
	}
	if err != nil {
		c.warn(step, fmt.Sprintf("its result %q is not in this report: %v", x.Name, err))
	}
}

// take returns the value of a result. What JSON cannot say would keep the whole report from being written, so it is an
// error here.
func take[T any](name result.Name[T], x pipeline.Result) (T, error) {
	value, err := name.Value(x)
	if err == nil {
		_, err = json.Marshal(value)
	}
	if err != nil {
		return *new(T), err
	}
	return value, nil
}

// pointer is for a part that reports can lack.
func pointer[T any](value T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return &value, nil
}

// end closes a step.
func (c *Collector) end(id pipeline.ID, x pipeline.Ended) {
	s := c.step(id)
	s.State, s.Seconds, s.Reason, s.Error, s.Hint, s.LastOutput = x.State, x.Elapsed.Seconds(), x.Reason, "", "", nil
	delete(c.began, id)
	for name, digest := range x.Digests {
		if c.report.Digests == nil {
			c.report.Digests = map[string]string{}
		}
		c.report.Digests[string(id)+"/"+name] = digest
	}
	if x.Err == nil {
		return
	}
	s.Error = x.Err.Error()
	if f, ok := errors.AsType[*pipeline.Fault](x.Err); ok {
		s.Hint, s.LastOutput = f.Hint, slices.Clone(f.Tail)
	}
}

func (c *Collector) endRun(e pipeline.Event, x pipeline.RunEnded) {
	c.ended = true
	c.report.Run = e.Run
	c.report.DurationSeconds = x.Elapsed.Seconds()
	c.report.Verdict = Passed
	if x.Err == nil {
		return
	}
	c.report.Error, c.report.ExitCode = x.Err.Error(), 1
	if f, ok := errors.AsType[*pipeline.Fault](x.Err); ok {
		c.report.Hint = f.Hint
	}
	if c.ExitCode != nil {
		c.report.ExitCode = c.ExitCode(x.Err)
	}
	const signals = 128 // a shell's code for a signal is this and its number
	_, failed := errors.AsType[*pipeline.StepError](x.Err)
	switch {
	case failed:
		c.report.Verdict = Failed
	case c.report.ExitCode > signals, errors.Is(x.Err, context.Canceled):
		c.report.Verdict = Cancelled
	default:
		c.report.Verdict = Failed
	}
}

// Failed says whether the end of the run was told of, with an error.
func (c *Collector) Failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && c.report.Error != ""
}

// NotBegun returns the report of a run that ended with err before it began. Nothing else is told to the collector.
func (c *Collector) NotBegun(err error, now time.Time) Report {
	c.Emit(pipeline.Event{Time: now.UTC(), Payload: pipeline.RunStarted{}})
	c.Emit(pipeline.Event{Time: now.UTC(), Payload: pipeline.RunEnded{Err: err}})
	return c.Report()
}

// Report returns the report as far as events have told. One of a run that has not ended says so and has failed.
func (c *Collector) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Version, r.Program = Version, c.Program
	if !c.ended {
		r.Verdict, r.Error, r.ExitCode = Failed, "the run has not ended", 1
	}
	r.Warnings = append([]string{}, r.Warnings...)
	r.Digests, r.Top = maps.Clone(r.Digests), slices.Clone(r.Top)
	r.Steps = make([]Step, len(c.report.Steps))
	for i, s := range c.report.Steps {
		r.Steps[i] = c.closed(*c.steps[s.ID])
	}
	return r
}

// closed gives a step that never ended a state, since every row has one.
func (c *Collector) closed(s Step) Step {
	if s.State != "" {
		return s
	}
	s.State, s.Reason = pipeline.Skipped, "the run ended before it"
	if _, works := c.began[s.ID]; works {
		s.State, s.Reason = pipeline.Cancelled, "the run ended while it worked"
	}
	return s
}
