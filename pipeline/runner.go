package pipeline

import (
	"context"
	"errors"
	"time"
)

// Runner plans and runs lists of steps.
type Runner struct {
	RunID     string
	Workspace string            // the name under which the Store remembers the last facts
	Store     Store             // of builders' results
	Sink      Sink              // gets the events of Run; Plan emits none
	Facts     map[string]string // of the whole run, for RunStarted
	Force     map[ID]bool       // builders that run although their result is stored
	// Cleanup bounds all undoing at the end of a run. Zero means 10 s, which CI runners grant to a job that they
	// cancel.
	Cleanup time.Duration
	// Reasons, if set, returns in a user's words how the facts of a step's last result differ from the present ones. If
	// it is nil, the differences are named by the facts.
	Reasons func(step ID, was, is Facts) []Change
	// First says that nothing has run in this workspace. Steps do not give that as a reason then, since all would.
	First bool
	// Explain, if set, adds to an error what to do about it. Each error of a step, of the store and of Then passes it
	// once, before an event has it; the cause of the context's end does not.
	Explain func(error) error
	// Then, if set, is called with the last step's outputs before the steps are undone. If it returns an error after
	// the run's context ended, the context's cause is returned in its place.
	Then func(context.Context, Values) error
}

// Run makes the outputs of the last step. It runs as few steps as possible, and as many as possible at the same time.
//
// The first error cancels the other steps and is returned as a [*StepError]; if ctx ends first, its cause is returned.
// Whatever the steps deferred is undone before Run returns; what could not be undone is joined to the error.
func (r *Runner) Run(ctx context.Context, steps []Step) error {
	if err := validate(steps); err != nil {
		return err
	}
	began := time.Now()
	ids := make([]ID, len(steps))
	for i, s := range steps {
		ids[i] = s.ID()
	}
	r.emit("", RunStarted{Steps: ids, Facts: r.Facts})

	inner, cancel := context.WithCancelCause(ctx)
	x := &execution{Runner: r, cancel: cancel, nodes: map[ID]*node{}, readers: readers(steps)}
	for _, s := range steps {
		x.add(inner, s)
	}
	goal := x.nodes[ids[len(ids)-1]]
	values, err := goal.make()
	if err == nil && r.Then != nil {
		if err = r.explain(r.Then(inner, values)); err != nil && inner.Err() != nil {
			err = context.Cause(inner)
		}
	}
	if failed, ok := errors.AsType[*StepError](context.Cause(inner)); ok {
		err = failed // the first failure, of which the goal's may be a consequence
	}
	cancel(errOver)
	x.running.Wait()

	failed := err
	err = errors.Join(err, r.explain(x.undo(ctx)), r.explain(x.close()))
	for _, s := range steps {
		switch n := x.nodes[s.ID()]; {
		case n.ended:
		case failed == nil && n.stored != nil:
			x.cached(n)
		default:
			r.emit(s.ID(), Ended{State: Skipped, Reason: skipReason(failed, n.stored != nil)})
		}
	}
	r.emit("", RunEnded{Elapsed: time.Since(began), Err: err})
	return err
}

var errOver = errors.New("the run is over")

// skipReason returns why a step of a run that ended with err did nothing.
func skipReason(err error, stored bool) string {
	switch {
	case err == nil:
		return "nothing that ran reads it"
	case stored:
		return "the run ended before its stored result was checked"
	default:
		return "the run ended before it"
	}
}

func (r *Runner) explain(err error) error {
	if err == nil || r.Explain == nil {
		return err
	}
	return r.Explain(err)
}

func (r *Runner) emit(step ID, p Payload) {
	r.Sink.Emit(Event{Run: r.RunID, Time: time.Now().UTC(), Step: step, Payload: p})
}
