package pipeline

import (
	"context"
	"errors"
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

// String returns the verdict in one line, as in "will run, because argv changed: … → …".
func (v Verdict) String() string {
	switch v.Kind {
	case WillRun:
		parts := make([]string, len(v.Because))
		for i, c := range v.Because {
			parts[i] = c.String()
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

// finding is what can be said of a step without running it.
type finding struct {
	verdict Verdict
	values  Values // nil if not known
	usable  bool   // the values can be read, not only identified
	fp      Fingerprint
	facts   Facts
	entry   Entry // of a usable Builder; the finder's owner closes it
}

// Plan says what Run would do, and changes nothing.
func (r *Runner) Plan(ctx context.Context, steps []Step) ([]Planned, error) {
	if err := validate(steps); err != nil {
		return nil, err
	}
	found := make([]finding, len(steps))
	known := Inputs{}
	for i, s := range steps {
		f, err := r.look(ctx, s, known)
		if err != nil {
			return nil, &StepError{Step: s.ID(), Err: err}
		}
		if f.entry != nil {
			if err := f.entry.Close(); err != nil {
				return nil, err
			}
		}
		for name, v := range f.values {
			known[Output{s.ID(), name}] = v
		}
		found[i] = f
	}
	// What is absent runs only for a reader: go from the last step to the first and see who reads what.
	read := map[Output]bool{}
	plan := make([]Planned, len(steps))
	for i := len(steps) - 1; i >= 0; i-- {
		s, v := steps[i], found[i].verdict
		if _, ok := s.(Observer); ok && v.Kind == WillRun && !anyOf(read, s.Outputs()) {
			v = Verdict{Kind: NotNeeded}
		}
		if v.Kind == WillRun || v.Kind == Depends || v.Kind == AlwaysRuns {
			for _, in := range s.Inputs() {
				read[in] = true
			}
		}
		plan[i] = Planned{s.ID(), v}
	}
	return plan, nil
}

func anyOf(set map[Output]bool, outputs []Output) bool {
	for _, o := range outputs {
		if set[o] {
			return true
		}
	}
	return false
}

// look says what is known of s, given what is known of earlier outputs.
func (r *Runner) look(ctx context.Context, s Step, known Inputs) (finding, error) {
	in := Inputs{}
	var pending []ID
	for _, o := range s.Inputs() {
		v, ok := known[o]
		if !ok {
			if len(pending) == 0 || pending[len(pending)-1] != o.Step {
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
		return r.lookStored(ctx, s, in)
	case Observer:
		if len(pending) > 0 {
			return finding{verdict: Verdict{Kind: Depends, Pending: pending}}, nil
		}
		state, values, err := s.Observe(ctx, in)
		if err != nil {
			return finding{}, err
		}
		if state.Present {
			return finding{verdict: Verdict{Kind: IsPresent}, values: values, usable: true}, nil
		}
		return finding{verdict: Verdict{Kind: WillRun, Because: []Change{{Fact: state.Reason}}}, values: values}, nil
	default:
		return finding{verdict: Verdict{Kind: AlwaysRuns}}, nil
	}
}

// lookStored looks for the stored outputs of b.
func (r *Runner) lookStored(ctx context.Context, b Builder, in Inputs) (finding, error) {
	facts, err := b.Facts(ctx, in)
	if err != nil {
		return finding{}, err
	}
	f := finding{facts: facts.with(in)}
	f.fp = fingerprint(b.ID(), f.facts)
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
		f.verdict = Verdict{Kind: WillRun, Because: []Change{{Fact: err.Error()}}}
		return f, nil
	case !errors.Is(err, ErrMiss):
		return finding{}, err
	}
	last, err := r.Store.Last(r.Workspace, b.ID())
	if err != nil {
		return finding{}, err
	}
	because := []Change{{Fact: "it has not run in this workspace"}}
	if last != nil {
		if because = changes(last, f.facts); len(because) == 0 {
			because = []Change{{Fact: "its result is no longer in the cache"}}
		}
	}
	f.verdict = Verdict{Kind: WillRun, Because: because}
	return f, nil
}
