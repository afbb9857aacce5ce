package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// execution is the state of one Run.
type execution struct {
	*Runner
	cancel  context.CancelCauseFunc
	nodes   map[ID]*node
	readers map[ID][]ID    // of a step's outputs, on the way to the last step
	running sync.WaitGroup // the gatherers of inputs

	mu      sync.Mutex
	undos   []undo
	entries []Entry
}

// node is a step of an execution. find and make run once, when they are first called, and return that result to every
// caller.
type node struct {
	step Step
	find func() (finding, error)
	make func() (Values, error)

	// Guarded by execution.mu until all goroutines are done.
	started time.Time
	fp      Fingerprint // that was told of
	ended   bool
	stored  *finding // a stored result, unless it turned out damaged
	stands  bool     // the step will not run
}

type undo struct {
	name string
	do   func(context.Context) error
}

func (x *execution) add(ctx context.Context, s Step) {
	n := &node{step: s}
	n.find = sync.OnceValues(func() (finding, error) { return x.find(ctx, n) })
	n.make = sync.OnceValues(func() (Values, error) { return x.make(ctx, n) })
	x.nodes[s.ID()] = n
}

// find returns what is known of n without running it, once its inputs are identified.
func (x *execution) find(ctx context.Context, n *node) (finding, error) {
	var in Inputs
	var err error
	if !alwaysRuns(n.step) { // such a step reads its inputs in any case, and need not wait until they are identified
		if in, err = x.gather(n, x.identify); err != nil {
			return finding{}, err
		}
	}
	f, err := x.examine(ctx, n.step, in)
	if err != nil {
		return finding{}, x.fail(ctx, n, err)
	}
	x.identified(n, f)
	if f.entry != nil { // the verdict is emitted once it is verified, or once it is known that nothing reads it
		x.keep(f.entry)
		x.store(n, &f)
		return f, nil
	}
	x.emit(n.step.ID(), Decided{f.verdict})
	if f.usable {
		x.end(n, Ended{State: Cached, Digests: f.values.digests()})
		x.stand(n)
	}
	return f, nil
}

// make returns n's values for reading: those that were found, or new ones.
func (x *execution) make(ctx context.Context, n *node) (Values, error) {
	f, err := n.find()
	if err != nil {
		return nil, err
	}
	if f.entry != nil {
		err := f.entry.Verify()
		if err == nil {
			x.stand(n)
			return f.values, nil
		}
		if errors.Is(err, ErrDamaged) {
			x.store(n, nil)
			x.emit(n.step.ID(), Decided{damaged(err)})
		}
		if err := x.drop(n, f.fp, err); err != nil {
			return nil, x.fail(ctx, n, err)
		}
	} else if f.usable {
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

// gather calls get for the producers of n's inputs, all at the same time.
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

// identified tells of the facts of a builder, once for each fingerprint.
func (x *execution) identified(n *node, f finding) {
	x.mu.Lock()
	told := n.fp == f.fp
	n.fp = f.fp
	x.mu.Unlock()
	if !told {
		x.emit(n.step.ID(), Fingerprinted{Fingerprint: f.fp, Facts: f.facts})
	}
}

func (x *execution) store(n *node, f *finding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n.stored = f
}

// stand notes that n will not run, and tells of its stored result, and of those that only steps read which will not run
// either: nothing reads them in this run, so nothing would find out that one is damaged.
func (x *execution) stand(n *node) {
	x.mu.Lock()
	all := x.standing(n)
	x.mu.Unlock()
	for _, n := range all {
		x.cached(n)
	}
}

// standing returns the stored results that stand because n does, those of n's inputs first.
func (x *execution) standing(n *node) []*node {
	if n.stands {
		return nil
	}
	n.stands = true
	var all []*node
	for _, o := range n.step.Inputs() {
		if !slices.ContainsFunc(x.readers[o.Step], func(id ID) bool { return !x.nodes[id].stands }) {
			all = append(all, x.standing(x.nodes[o.Step])...)
		}
	}
	if n.stored != nil {
		all = append(all, n)
	}
	return all
}

// cached tells of a stored result.
func (x *execution) cached(n *node) {
	x.emit(n.step.ID(), Decided{n.stored.verdict})
	x.note(n, n.stored.facts)
	x.remind(n, n.stored.values)
	x.end(n, Ended{State: Cached, Digests: n.stored.values.digests()})
}

// remind tells what comes with a stored result.
func (x *execution) remind(n *node, stored Values) {
	if r, ok := n.step.(Reminder); ok {
		for _, p := range r.Remind(stored) {
			x.emit(n.step.ID(), p)
		}
	}
}

// drop takes a damaged entry away with a warning, for its result to be made again. It returns any error that does not
// say that the entry is damaged.
func (x *execution) drop(n *node, fp Fingerprint, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	x.emit(n.step.ID(), Warning{Text: err.Error() + "; it is built again"})
	return x.Store.Drop(fp)
}

// run runs n's step on the values of its inputs.
func (x *execution) run(ctx context.Context, n *node, in Inputs) (Values, error) {
	var values Values
	var err error
	state := Done
	if b, ok := n.step.(Builder); ok {
		values, state, err = x.build(ctx, n, b, in)
	} else {
		values, err = x.perform(ctx, n, x.work(n, "", in))
		if missing := lacking(n.step, values); err == nil && missing != "" {
			err = fmt.Errorf("it ended without making %s", missing)
		}
	}
	if err != nil {
		return nil, x.fail(ctx, n, err)
	}
	if state == Cached { // another process made it meanwhile
		x.remind(n, values)
	}
	elapsed, _ := x.elapsed(n)
	x.end(n, Ended{State: state, Elapsed: elapsed, Digests: values.digests()})
	return values, nil
}

// perform lets n's step do its work, and returns what it set.
func (x *execution) perform(ctx context.Context, n *node, w *Work) (Values, error) {
	x.mu.Lock()
	n.started = time.Now()
	x.mu.Unlock()
	x.emit(n.step.ID(), Started{})
	err := n.step.Run(ctx, w)
	w.flush()
	return w.Values(), err
}

// build makes the outputs of b, or takes them if they turn out to be stored after all.
func (x *execution) build(
	ctx context.Context, n *node, b Builder, in Inputs,
) (values Values, state EndState, err error) {
	// The inputs were only identified before; made again, they can differ, and so can the facts that are read from
	// them.
	f, err := fingerprinted(ctx, b, in)
	if err != nil {
		return nil, "", err
	}
	x.identified(n, f)
	tx, err := x.Store.Begin(ctx, f.fp, func(holder string) {
		x.emit(b.ID(), Warning{Text: "waiting for " + holder + ", which builds the same"})
	})
	if err != nil {
		return nil, "", err
	}
	defer func() {
		end := tx.Rollback
		if fault, ok := errors.AsType[*Fault](err); ok && fault.Repeat != "" && ctx.Err() == nil {
			end = tx.Abandon // the line that repeats it by hand names the folder
		}
		err = errors.Join(err, end())
	}()
	if !x.Force[b.ID()] {
		values, err := x.stored(n, f)
		if values != nil || err != nil {
			return values, Cached, err
		}
	}
	if _, err = x.perform(ctx, n, x.work(n, tx.Dir(), in)); err != nil {
		return nil, "", err
	}
	names := make([]string, 0, len(b.Outputs()))
	for _, o := range b.Outputs() {
		names = append(names, o.Name)
	}
	entry, err := tx.Commit(b.ID(), f.facts, names)
	if err != nil {
		return nil, "", err
	}
	x.keep(entry)
	x.note(n, f.facts)
	return entry.Values(), Done, nil
}

// stored returns the values of a sound entry that another process made meanwhile, or that other inputs lead to. It
// returns nil if there is none.
func (x *execution) stored(n *node, f finding) (Values, error) {
	entry, err := x.Store.Get(f.fp)
	if errors.Is(err, ErrMiss) {
		return nil, nil
	}
	if err != nil {
		return nil, x.drop(n, f.fp, err)
	}
	x.keep(entry)
	if err := entry.Verify(); err != nil {
		return nil, x.drop(n, f.fp, err)
	}
	x.note(n, f.facts)
	return entry.Values(), nil
}

// note records the facts of a result. Without them the next plan only knows less of why.
func (x *execution) note(n *node, facts Facts) {
	if facts == nil {
		return
	}
	if err := x.Store.Note(x.Workspace, n.step.ID(), facts); err != nil {
		x.emit(n.step.ID(), Warning{Text: err.Error()})
	}
}

func (x *execution) work(n *node, dir string, in Inputs) *Work {
	id := n.step.ID()
	return NewWork(dir, in,
		func(p Payload) { x.emit(id, p) },
		func(name string, do func(context.Context) error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.undos = append(x.undos, undo{name, do})
		})
}

func (x *execution) keep(e Entry) {
	if e == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries = append(x.entries, e)
}

// fail closes n and cancels the run. A step that ends because the run was cancelled did not fail, and one that had not
// started is skipped.
func (x *execution) fail(ctx context.Context, n *node, err error) error {
	elapsed, started := x.elapsed(n)
	if ctx.Err() != nil {
		if started {
			x.end(n, Ended{State: Cancelled, Elapsed: elapsed})
		}
		return context.Cause(ctx)
	}
	err = x.explain(err)
	failed := &StepError{Step: n.step.ID(), Elapsed: elapsed, Err: err}
	x.end(n, Ended{State: Failed, Elapsed: elapsed, Err: err})
	x.cancel(failed)
	return failed
}

// elapsed returns how long n has worked, if it has started.
func (x *execution) elapsed(n *node) (_ time.Duration, started bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n.started.IsZero() {
		return 0, false
	}
	return time.Since(n.started), true
}

func (x *execution) end(n *node, e Ended) {
	x.mu.Lock()
	n.ended = true
	x.mu.Unlock()
	x.emit(n.step.ID(), e)
}

// undo does what the steps deferred, last first, on a context that outlives the run's.
func (x *execution) undo(ctx context.Context) error {
	const within = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(x.Cleanup, within))
	defer cancel()
	var errs []error
	for _, u := range slices.Backward(x.undos) {
		if err := u.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
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
