package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// VerdictKind is what will become of a step.
type VerdictKind string

// The verdicts.
const (
	WillReuse  VerdictKind = "cached"     // its stored outputs are there
	IsPresent  VerdictKind = "present"    // what it makes is there already
	WillRun    VerdictKind = "will run"   // because of the changes
	Depends    VerdictKind = "depends on" // on what the pending steps will make
	NotNeeded  VerdictKind = "not needed" // nothing that will run reads it
	AlwaysRuns VerdictKind = "runs"       // it has no result to keep
)

// Verdict says what will become of a step, and why.
type Verdict struct {
	Kind    VerdictKind `json:"kind"`
	Because []Change    `json:"because,omitempty"`
	Pending []ID        `json:"pending,omitempty"`
}

// String returns the verdict in one line, as in "will run, because precision: fp16 → fp32".
func (v Verdict) String() string {
	switch v.Kind {
	case WillRun:
		parts := make([]string, len(v.Because))
		for i, c := range v.Because {
			parts[i] = c.String()
		}
		if len(parts) == 0 {
			return string(v.Kind)
		}
		return string(v.Kind) + ", because " + strings.Join(parts, "; ")
	case Depends:
		parts := make([]string, len(v.Pending))
		for i, id := range v.Pending {
			parts[i] = string(id)
		}
		return string(v.Kind) + " " + strings.Join(parts, ", ")
	default:
		return string(v.Kind)
	}
}

// Planned is one row of a plan.
type Planned struct {
	Step    ID      `json:"step"`
	Verdict Verdict `json:"verdict"`
}

// finding is what is known of a step without running it.
type finding struct {
	verdict Verdict
	values  Values // nil if not known
	usable  bool   // the values can be read, not only identified
	fp      Fingerprint
	facts   Facts
	entry   Entry // of a usable Builder; the caller of examine closes it
}

// Plan returns what Run would do with each step, and changes nothing. It hashes the stored results that Run would read:
// a damaged one counts as absent.
func (r *Runner) Plan(ctx context.Context, steps []Step) (plan []Planned, err error) {
	if err := validate(steps); err != nil {
		return nil, err
	}
	found := make([]finding, len(steps))
	defer func() {
		for _, f := range found {
			if f.entry != nil {
				err = errors.Join(err, f.entry.Close())
			}
		}
		if err != nil {
			plan = nil
		}
	}()
	known := Inputs{}
	for i, s := range steps {
		if found[i], err = r.examine(ctx, s, known); err != nil || ctx.Err() != nil {
			return nil, r.planError(ctx, s, err)
		}
		for name, v := range found[i].values {
			known[Output{s.ID(), name}] = v
		}
	}
	return r.needed(ctx, steps, found)
}

func (r *Runner) planError(ctx context.Context, s Step, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &StepError{Step: s.ID(), Err: r.explain(err)}
}

// needed decides which steps run, from the last one, whose outputs are the result of the run, to the first. Only steps
// that lead to the last one run. An Observer whose values are known but absent runs only for a reader that runs. A
// stored result is verified only for a reader that runs; that of the last step always is, since the caller reads it.
func (r *Runner) needed(ctx context.Context, steps []Step, found []finding) ([]Planned, error) {
	leads, read := map[Output]bool{}, map[Output]bool{}
	plan := make([]Planned, len(steps))
	for i, s := range slices.Backward(steps) {
		last := i == len(steps)-1
		v, err := found[i].verify(last || anyOf(read, s.Outputs()))
		if err != nil || ctx.Err() != nil {
			return nil, r.planError(ctx, s, err)
		}
		_, observes := s.(Observer)
		lazy := observes && v.Kind == WillRun
		runs := v.Kind == WillRun || v.Kind == Depends || v.Kind == AlwaysRuns
		if runs && !last && (!anyOf(leads, s.Outputs()) || lazy && !anyOf(read, s.Outputs())) {
			v, runs = Verdict{Kind: NotNeeded}, false
		}
		for _, in := range s.Inputs() {
			leads[in] = leads[in] || last || anyOf(leads, s.Outputs())
			read[in] = read[in] || runs
		}
		plan[i] = Planned{s.ID(), v}
	}
	return plan, nil
}

// verify returns the verdict on a step. It verifies a stored result that is read.
func (f finding) verify(read bool) (Verdict, error) {
	if f.entry == nil || !read {
		return f.verdict, nil
	}
	err := f.entry.Verify()
	if errors.Is(err, ErrDamaged) {
		return damaged(err), nil
	}
	return f.verdict, err
}

// damaged returns the verdict on a step whose stored result is damaged.
func damaged(err error) Verdict {
	return Verdict{Kind: WillRun, Because: []Change{{Fact: err.Error()}}}
}

// readers returns, for each step, the steps that read its outputs, among those that the last step needs.
func readers(steps []Step) map[ID][]ID {
	all := map[ID][]ID{}
	for i, s := range slices.Backward(steps) {
		if i < len(steps)-1 && len(all[s.ID()]) == 0 {
			continue
		}
		for _, in := range s.Inputs() {
			if !slices.Contains(all[in.Step], s.ID()) {
				all[in.Step] = append(all[in.Step], s.ID())
			}
		}
	}
	return all
}

func anyOf(set map[Output]bool, outputs []Output) bool {
	for _, o := range outputs {
		if set[o] {
			return true
		}
	}
	return false
}

// alwaysRuns reports whether s has no result that could be found.
func alwaysRuns(s Step) bool {
	switch s.(type) {
	case Builder, Observer:
		return false
	default:
		return true
	}
}

// examine returns what is known of s without running it, given the known values of earlier outputs.
func (r *Runner) examine(ctx context.Context, s Step, known Inputs) (finding, error) {
	in := Inputs{}
	var pending []ID
	for _, o := range s.Inputs() {
		v, ok := known[o]
		if !ok {
			if !slices.Contains(pending, o.Step) {
				pending = append(pending, o.Step)
			}
			continue
		}
		in[o] = v
	}
	switch s := s.(type) {
	case Builder:
		if len(pending) > 0 {
			return finding{verdict: Verdict{Kind: Depends, Pending: pending}}, nil
		}
		return r.examineStored(ctx, s, in)
	case Observer:
		if len(pending) > 0 {
			return finding{verdict: Verdict{Kind: Depends, Pending: pending}}, nil
		}
		state, values, err := s.Observe(ctx, in)
		if err != nil {
			return finding{}, err
		}
		missing := lacking(s, values)
		if state.Present {
			if missing != "" {
				return finding{}, fmt.Errorf("it is present, but without %s", missing)
			}
			return finding{verdict: Verdict{Kind: IsPresent}, values: values, usable: true}, nil
		}
		if missing != "" {
			values = nil
		}
		return finding{verdict: Verdict{Kind: WillRun, Because: []Change{{Fact: state.Reason}}}, values: values}, nil
	default:
		return finding{verdict: Verdict{Kind: AlwaysRuns}}, nil
	}
}

// fingerprinted returns the facts of b and their fingerprint.
func fingerprinted(ctx context.Context, b Builder, in Inputs) (finding, error) {
	facts, err := b.Facts(ctx, in)
	if err != nil {
		return finding{}, err
	}
	facts = facts.with(in, b.Outputs())
	return finding{facts: facts, fp: fingerprint(b.ID(), facts)}, nil
}

// examineStored looks for the stored outputs of b.
func (r *Runner) examineStored(ctx context.Context, b Builder, in Inputs) (finding, error) {
	f, err := fingerprinted(ctx, b, in)
	if err != nil {
		return finding{}, err
	}
	if r.Force[b.ID()] {
		f.verdict = Verdict{Kind: WillRun, Because: []Change{{Fact: "it was asked for"}}}
		return f, nil
	}
	entry, err := r.Store.Get(f.fp)
	switch {
	case err == nil:
		f.verdict, f.values, f.usable, f.entry = Verdict{Kind: WillReuse}, entry.Values(), true, entry
		return f, nil
	case errors.Is(err, ErrDamaged):
		f.verdict = damaged(err)
		return f, nil
	case !errors.Is(err, ErrMiss):
		return finding{}, err
	}
	last, err := r.Store.Last(r.Workspace, b.ID())
	if err != nil {
		return finding{}, err
	}
	f.verdict = Verdict{Kind: WillRun, Because: r.because(b.ID(), last, f.facts)}
	return f, nil
}

// because says why a step runs whose result is not stored, by the facts of its last one, which are nil if there was
// none.
func (r *Runner) because(step ID, last, now Facts) []Change {
	if last == nil {
		if r.First {
			return nil
		}
		return []Change{{Fact: "it has not run in this workspace"}}
	}
	differ := changes(last, now)
	if len(differ) == 0 {
		return []Change{{Fact: "its result is no longer in the cache"}}
	}
	if r.Reasons != nil {
		if words := r.Reasons(step, last, now); len(words) > 0 {
			return words
		}
	}
	return differ
}
