package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Runner plans and runs lists of steps.
type Runner struct {
	RunID     ID
	Workspace string            // the name under which the Store remembers the last facts
	Store     Store             //
	Sink      Sink              //
	Facts     map[string]string // of the whole run, for RunStarted
	Force     map[ID]bool       // builders that run although their result is stored
	// Cleanup bounds all undoing at the end of a run.
	Cleanup time.Duration
	// Then, if set, is called with the last step's outputs while everything still stands.
	Then func(context.Context, Values) error
}

// Run makes the outputs of the last step, running as little as possible and as much as possible at a time.
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
	r.tell("", RunStarted{Steps: ids, Facts: r.Facts})

	inner, cancel := context.WithCancelCause(ctx)
	x := &execution{Runner: r, cancel: cancel, nodes: map[ID]*node{}}
	for _, s := range steps {
		x.add(inner, s)
	}
	goal := x.nodes[ids[len(ids)-1]]
	values, err := goal.make()
	if err == nil && r.Then != nil {
		err = r.Then(inner, values)
	}
	if failed, ok := errors.AsType[*StepError](context.Cause(inner)); ok {
		err = failed // the first failure, of which the goal's may be a consequence
	}
	cancel(errOver)
	x.running.Wait()

	err = errors.Join(err, x.undo(ctx), x.close())
	for _, s := range steps {
		if !x.nodes[s.ID()].ended {
			r.tell(s.ID(), Ended{State: Skipped, Reason: skipReason(err)})
		}
	}
	r.tell("", RunEnded{Elapsed: time.Since(began), Err: err})
	return err
}

var errOver = errors.New("the run is over")

func skipReason(err error) string {
	if err != nil {
		return "the run ended before it"
	}
	return "nothing that ran reads it"
}

func (r *Runner) tell(step ID, p Payload) {
	r.Sink.Emit(Event{Run: string(r.RunID), Time: time.Now().UTC(), Step: step, Payload: p})
}

// execution is the state of one Run.
type execution struct {
	*Runner
	cancel  context.CancelCauseFunc
	nodes   map[ID]*node
	running sync.WaitGroup // the gatherers of inputs

	mu      sync.Mutex
	undos   []undo
	entries []Entry
}

// node is a step of an execution. Each of find and make happens once, when first asked for, and everyone gets its result.
type node struct {
	step  Step
	find  func() (finding, error)
	make  func() (Values, error)
	ended bool // guarded by execution.mu until all goroutines are done
}

type undo struct {
	name string
	do   func(context.Context) error
}

func (x *execution) add(ctx context.Context, s Step) {
	n := &node{step: s}
	n.find = sync.OnceValues(func() (finding, error) {
		in, err := x.gather(n, x.identify)
		if err != nil {
			return finding{}, err
		}
		f, err := x.look(ctx, s, in)
		if err != nil {
			return finding{}, x.fail(ctx, n, time.Now(), err)
		}
		x.keep(f.entry)
		x.tell(s.ID(), Decided{f.verdict})
		if f.usable {
			x.reused(n, f)
		}
		return f, nil
	})
	n.make = sync.OnceValues(func() (Values, error) {
		f, err := n.find()
		if err != nil {
			return nil, err
		}
		if f.usable && x.sound(n, f) {
			return f.values, nil
		}
		in, err := x.gather(n, (*node).made)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return x.run(ctx, n, in)
	})
	x.nodes[s.ID()] = n
}

func (n *node) made() (Values, error) { return n.make() }

// identify returns n's values, making them only if they cannot be known otherwise.
func (x *execution) identify(n *node) (Values, error) {
	f, err := n.find()
	if err != nil || f.values != nil {
		return f.values, err
	}
	return n.make()
}

// gather applies get to the producers of n's inputs, all at once.
func (x *execution) gather(n *node, get func(*node) (Values, error)) (Inputs, error) {
	producers := map[ID]*node{}
	for _, o := range n.step.Inputs() {
		producers[o.Step] = x.nodes[o.Step]
	}
	type got struct {
		id     ID
		values Values
		err    error
	}
	results := make(chan got, len(producers))
	for id, p := range producers {
		x.running.Go(func() {
			v, err := get(p)
			results <- got{id, v, err}
		})
	}
	values := map[ID]Values{}
	for range producers {
		g := <-results
		if g.err != nil {
			return nil, g.err // the others end by themselves: the run is cancelled
		}
		values[g.id] = g.values
	}
	in := Inputs{}
	for _, o := range n.step.Inputs() {
		in[o] = values[o.Step][o.Name]
	}
	return in, nil
}

// sound says whether a reused result is what it was. A damaged one is dropped with a warning and made again.
func (x *execution) sound(n *node, f finding) bool {
	if f.entry == nil {
		return true
	}
	err := f.entry.Verify()
	if err == nil {
		return true
	}
	x.tell(n.step.ID(), Warning{Text: err.Error() + "; it is built again"})
	if err := x.Store.Drop(f.fp); err != nil {
		x.tell(n.step.ID(), Warning{Text: err.Error()})
	}
	return false
}

// run runs n's step on the values of its inputs.
func (x *execution) run(ctx context.Context, n *node, in Inputs) (Values, error) {
	began := time.Now()
	var values Values
	var err error
	if b, ok := n.step.(Builder); ok {
		values, err = x.build(ctx, n, b, in)
	} else {
		w := x.work(n, "", in)
		x.tell(n.step.ID(), Started{})
		err = n.step.Run(ctx, w)
		w.flush()
		values = w.Values()
		if err == nil {
			err = missing(n.step, values)
		}
		if err == nil {
			x.end(n, Ended{State: Done, Elapsed: time.Since(began), Digests: values.digests()})
		}
	}
	if err != nil {
		return nil, x.fail(ctx, n, began, err)
	}
	return values, nil
}

func missing(s Step, values Values) error {
	for _, o := range s.Outputs() {
		if _, ok := values[o.Name]; !ok {
			return fmt.Errorf("it ended without making %s", o.Name)
		}
	}
	return nil
}

// build makes the outputs of b, or takes them if they turn out to be stored after all.
func (x *execution) build(ctx context.Context, n *node, b Builder, in Inputs) (values Values, err error) {
	// The inputs were only identified before; made again, they can differ, and so can the facts that are read from them.
	f, err := x.lookStored(ctx, b, in)
	if err != nil {
		return nil, err
	}
	if f.usable {
		x.keep(f.entry)
		x.reused(n, f)
		return f.values, nil
	}
	tx, err := x.Store.Begin(ctx, f.fp, func(holder string) {
		x.tell(b.ID(), Warning{Text: "waiting for " + holder + ", which builds the same"})
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	if entry, ok := x.built(b.ID(), f.fp); ok {
		f.entry, f.values = entry, entry.Values()
		x.keep(entry)
		x.reused(n, f)
		return f.values, nil
	}

	began := time.Now()
	w := x.work(n, tx.Dir(), in)
	x.tell(b.ID(), Started{})
	err = b.Run(ctx, w)
	w.flush()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(b.Outputs()))
	for _, o := range b.Outputs() {
		names = append(names, o.Name)
	}
	entry, err := tx.Commit(b.ID(), f.facts, names)
	if err != nil {
		return nil, err
	}
	x.keep(entry)
	if err = x.Store.Note(x.Workspace, b.ID(), f.facts); err != nil {
		return nil, err
	}
	x.end(n, Ended{State: Done, Elapsed: time.Since(began), Digests: entry.Values().digests()})
	return entry.Values(), nil
}

// built returns the entry of fp if another process made it meanwhile. A damaged or unwanted one is dropped.
func (x *execution) built(id ID, fp Fingerprint) (Entry, bool) {
	entry, err := x.Store.Get(fp)
	if err == nil && !x.Force[id] {
		return entry, true
	}
	if errors.Is(err, ErrMiss) {
		return nil, false
	}
	if err == nil {
		err = entry.Close()
	}
	if err != nil {
		x.tell(id, Warning{Text: err.Error() + "; it is built again"})
	}
	if err := x.Store.Drop(fp); err != nil {
		x.tell(id, Warning{Text: err.Error()})
	}
	return nil, false
}

func (x *execution) reused(n *node, f finding) {
	if f.facts != nil {
		if err := x.Store.Note(x.Workspace, n.step.ID(), f.facts); err != nil {
			x.tell(n.step.ID(), Warning{Text: err.Error()})
		}
	}
	x.end(n, Ended{State: Cached, Digests: f.values.digests()})
}

func (x *execution) work(n *node, dir string, in Inputs) *Work {
	id := n.step.ID()
	w := NewWork(dir, in,
		func(p Payload) { x.tell(id, p) },
		func(name string, do func(context.Context) error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.undos = append(x.undos, undo{name, do})
		})
	w.Run = x.RunID
	return w
}

func (x *execution) keep(e Entry) {
	if e == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries = append(x.entries, e)
}

// fail closes n and cancels the run. A step that ends because the run was cancelled did not fail.
func (x *execution) fail(ctx context.Context, n *node, began time.Time, err error) error {
	if ctx.Err() != nil {
		x.end(n, Ended{State: Cancelled, Elapsed: time.Since(began)})
		return context.Cause(ctx)
	}
	failed := &StepError{Step: n.step.ID(), Elapsed: time.Since(began), Err: err}
	x.end(n, Ended{State: Failed, Elapsed: failed.Elapsed, Err: err})
	x.cancel(failed)
	return failed
}

func (x *execution) end(n *node, e Ended) {
	x.mu.Lock()
	n.ended = true
	x.mu.Unlock()
	x.tell(n.step.ID(), e)
}

// undo does what the steps deferred, last first, on a context that outlives the run's.
func (x *execution) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.Cleanup)
	defer cancel()
	var errs []error
	for i := len(x.undos) - 1; i >= 0; i-- {
		if err := x.undos[i].do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.undos[i].name, err))
		}
	}
	return errors.Join(errs...)
}

func (x *execution) close() error {
	var errs []error
	for _, e := range x.entries {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
