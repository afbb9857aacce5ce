// Package trial is the use of internal/bench and of internal/tune. Of a bench it says which server is loaded, with
// which pictures, how often, and what is told of figures that became worse than those of a baseline; of a tune, how the
// servers are started that are compared.
package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// Request is what a user asked for.
type Request struct {
	URL      string   // gRPC address of a server, host:port; empty for the workspace's
	Model    string   // that is asked; one input takes the picture
	Ensemble string   // a model that does take pictures, for hints
	Pictures []string // files, folders and patterns; none is Sample
	Sample   []byte   // an encoded picture

	Concurrency []int     // of closed loops, one each; none is [UsualConcurrency], unless there are open loops
	Rates       []float64 // of open loops, one each: requests a second
	MaxInFlight int       // of an open loop
	Batch       int       // pictures in a request
	Connections int
	Duration    time.Duration // of each loop
	Timeout     time.Duration // of one answer

	Save          string  // name of a file for a new baseline; empty for none
	Baseline      string  // name of a file with one; empty for none
	MaxRegression float64 // the share by which a figure may be worse than the baseline's
	Settings      target.Settings
	Program       string // version of the program
}

// Trial loads a server once. All fields are required.
type Trial struct {
	Request Request
	Files   *userfile.Reader
	Finder  classify.Finder
	// Turn waits until no other job builds or measures on the GPUs of a workspace's server, which are this host's and
	// known by their UUIDs, and keeps others from that until release is called.
	Turn func(ctx context.Context, workspace string, gpus []string) (release func(), err error)
	// Notice is called with what happens meanwhile, a line each.
	Notice func(line string)
}

// Run returns what was measured, and an error for what went wrong. With an error there may be measurements too: those
// made until then, or those that became worse. Nothing was measured if Started is zero.
//
// An error is a fault of [pipeline.GateFailed] if figures are worse than the baseline's and repeated runs confirm it,
// of [pipeline.NotReady] if the server is not there, answers nothing, or is gone at the end, and the cause of ctx if
// that ended. Requests that failed, while others were answered, are figures and no error.
func (t Trial) Run(ctx context.Context) (result bench.Result, err error) {
	if err := t.Request.check(); err != nil {
		return result, err
	}
	old, err := t.readBaseline(ctx)
	if err != nil {
		return result, err
	}
	pictures, err := t.Request.pictures(ctx, t.Files)
	if err != nil {
		return result, err
	}
	s, err := t.find(ctx)
	if err != nil {
		return result, err
	}
	t.Request.Model = cmp.Or(t.Request.Model, s.model, t.Request.Ensemble)
	s.environment.Model, s.environment.Pictures = t.Request.Model, digest(pictures)
	save, err := newFile(t.Request.Save)
	if err != nil {
		return result, err
	}
	defer save.discard()
	c, err := t.connect(ctx, s)
	if err != nil {
		return result, err
	}
	defer c.close()
	loads := t.Request.loads(c.models)
	if t.Request.Baseline != "" {
		if err := t.fits(old.Check(s.environment, loads)); err != nil {
			return result, err
		}
	}
	if err := t.prepare(ctx, c, pictures); err != nil {
		return result, err
	}
	if len(s.gpus) > 0 {
		release, err := t.Turn(ctx, s.workspace, s.gpus)
		if err != nil {
			return result, err
		}
		defer release()
	}

	result = bench.Result{
		Version: bench.Version, Program: t.Request.Program, Started: time.Now().UTC(), Server: s.address,
		Environment: s.environment,
	}
	err = t.measure(ctx, c, loads, old, &result)
	result.Findings = s.findings(ctx, result.Started, t.Notice)
	if err == nil {
		err = t.judge(old, result)
	}
	if err == nil && save != nil {
		err = t.save(save, result)
	}
	return result, err
}

// UsualConcurrency are the closed loops of a run that names no load. A CPU answers a few dozen pictures a second: with
// 64 at a time each waits for seconds.
func UsualConcurrency(onCPU bool) []int {
	if onCPU {
		return []int{1, 8}
	}
	return []int{1, 8, 64}
}

// baseline is the flag that names the baseline, as it was set.
func (r Request) baseline() string { return r.Settings.Written("baseline", userfile.Shown(r.Baseline)) }

// check refuses what no server could make right.
func (r Request) check() error {
	if r.Save != "" && r.Baseline != "" {
		return pipeline.Usagef("drop one of them",
			"%s and %s exclude each other: a run is compared, or is the new baseline",
			r.Settings.Written("save-baseline", userfile.Shown(r.Save)), r.baseline())
	}
	r.Model = cmp.Or(r.Model, r.Ensemble) // any that is one
	for _, l := range r.loads(nil) {
		if err := l.Check(); err != nil {
			return pipeline.Usagef("`dalirun bench --help` has the flags", "%w", err)
		}
	}
	return nil
}

// loads are those that are asked for of a server with some models, the closed loops first.
func (r Request) loads(models []bench.Model) []bench.Load {
	usual := bench.Load{
		Model: r.Model, Batch: r.Batch, Connections: r.Connections, DurationSeconds: r.Duration.Seconds(),
		TimeoutSeconds: r.Timeout.Seconds(), Warmup: bench.WarmupFor(models),
	}
	concurrency := r.Concurrency
	if len(concurrency) == 0 && len(r.Rates) == 0 {
		onGPU := func(m bench.Model) bool { return !m.Ensemble && !m.CPU }
		concurrency = UsualConcurrency(!slices.ContainsFunc(models, onGPU))
	}
	var loads []bench.Load
	for _, n := range concurrency {
		l := usual
		l.Concurrency = n
		loads = append(loads, l)
	}
	for _, rate := range r.Rates {
		l := usual
		l.Rate, l.MaxInFlight, l.Seed = rate, r.MaxInFlight, seed
		loads = append(loads, l)
	}
	return loads
}

// fewerHint is what to do about loads without figures.
const fewerHint = "ask for less at a time, or for longer with --duration"

// seed has all open loops of a rate be due at the same times, so that their figures can be compared.
const seed = 1

// measure runs the loads as often as it takes, and adds what was measured to the result, also before an error.
func (t Trial) measure(
	ctx context.Context, c *connection, loads []bench.Load, old bench.Baseline, result *bench.Result,
) error {
	for {
		last, err := t.runs(old, result)
		if err != nil || len(result.Runs) >= last {
			return err
		}
		run, err := c.bench.RunInTurn(ctx, loads, func(m bench.Measurement) {
			if m.WarmupFailed != "" {
				t.Notice("warning: the warm-up failed, and the server may not have been warm: " + m.WarmupFailed)
			}
			t.Notice(t.which(len(result.Runs)+1, last) + m.String())
		})
		if len(run) > 0 {
			result.Runs = append(result.Runs, run)
		}
		if ctx.Err() != nil {
			result.Interrupted = true
			return context.Cause(ctx)
		}
		if err != nil {
			return c.server.fault(ctx, t.Request, err)
		}
		if err := c.answers(ctx, t.Request, run); err != nil {
			return err
		}
	}
}

// runs is how many runs there are to be, as far as is known by now, and compares those that there are.
func (t Trial) runs(old bench.Baseline, result *bench.Result) (int, error) {
	switch {
	case t.Request.Save != "":
		return bench.RunsToConfirm, nil
	case t.Request.Baseline == "" || len(result.Runs) == 0:
		return 1, nil
	}
	compared, err := bench.Compare(old, result.Environment, result.Runs, t.Request.MaxRegression)
	if err != nil {
		return 0, t.fits(err)
	}
	result.Comparisons = compared
	if bench.Worst(compared) == bench.Suspected {
		return bench.RunsToConfirm, nil
	}
	return len(result.Runs), nil
}

// which is "run 2 of 5, ", or "run 1 of 1 to 5, " where the figures decide how many there are.
func (t Trial) which(run, last int) string {
	switch {
	case last > 1:
		return fmt.Sprintf("run %d of %d, ", run, last)
	case t.Request.Baseline != "":
		return fmt.Sprintf("run 1 of 1 to %d, ", bench.RunsToConfirm)
	default:
		return ""
	}
}

// judge is the gate: the fault of figures that are confirmed to be worse.
func (t Trial) judge(old bench.Baseline, result bench.Result) error {
	var worse []string
	for _, c := range result.Comparisons {
		if c.Verdict == bench.Confirmed {
			worse = append(worse, c.String())
		}
	}
	if len(worse) == 0 {
		return nil
	}
	const percent = 100
	return pipeline.Faultf(pipeline.GateFailed,
		"what limits is named beside the figures; if they are meant to be so, save them with --save-baseline",
		"worse than %s of %s by more than %g %%, as %d runs in turn confirm: %s",
		t.Request.baseline(), old.Saved.Format(time.DateOnly), percent*t.Request.MaxRegression, len(result.Runs),
		strings.Join(worse, "; "))
}

// fits is what to do about measurements that cannot be compared; nil for nil.
func (t Trial) fits(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*bench.Mismatch](err); !ok {
		return pipeline.Faultf(pipeline.NotReady, fewerHint, "%w", err)
	}
	return pipeline.Usagef("save one of this server and these loads with --save-baseline", "%s: %w", t.Request.baseline(),
		err)
}
