// Package pipeline runs a list of steps that depend on one another, and keeps what they make.
//
// A [Step] names what it reads and what it makes by [Output] handles, which are the only edges of the graph. A [Runner]
// starts whatever is ready, takes from a [Store] what was made before under the same [Fingerprint], and tells of
// everything as an [Event]. The package knows no containers, GPUs or terminals.
package pipeline

import (
	"context"
	"errors"
	"fmt"
)

// ID names a step: stable, lower-case, words joined by hyphens, as in "build-engine".
type ID string

// Output is a handle to one thing that a step makes.
type Output struct {
	Step ID
	Name string // file or folder name for a Builder's, any word otherwise
}

// String returns "step/name".
func (o Output) String() string { return string(o.Step) + "/" + o.Name }

// Value is what an Output turned out to be: a stored path, or a reference such as an image or a server's address.
type Value struct {
	Path string // absolute; set for what a Builder made
	Ref  string // set for what any other step made
	// Digest identifies the content. It is what the fingerprint of a reader counts, so two values with one digest are
	// interchangeable.
	Digest string
}

// Values maps the names of a step's outputs to what they are.
type Values map[string]Value

// Inputs are the values of the outputs that a step reads.
type Inputs map[Output]Value

// Step is one node of a run.
//
// A step's errors do not repeat its ID: the [Runner] adds it once.
type Step interface {
	ID() ID
	Inputs() []Output
	Outputs() []Output
	// Run makes the outputs. A Builder writes each as a file or folder of its name in w.Dir; any other step calls w.Set.
	Run(ctx context.Context, w *Work) error
}

// Builder is a step whose outputs are stored under its fingerprint and reused while nothing changed.
type Builder interface {
	Step
	// Facts returns everything besides the inputs' contents that the outputs depend on. It changes nothing.
	Facts(ctx context.Context, in Inputs) (Facts, error)
}

// Reminder is a step of whose stored result something is told in each run that uses it, not only in the one that made
// it.
type Reminder interface {
	Builder
	// Remind returns results and warnings. Nobody has looked yet whether the stored values are whole: what cannot be read
	// is left out.
	Remind(stored Values) []Payload
}

// Observer is a step whose result is not stored because it lives elsewhere, such as an image in a container runtime.
// It runs only if a step that will run reads it.
type Observer interface {
	Step
	// Observe says what is there now and changes nothing. Values that are absent but known by their digest let readers
	// find their own stored results without them.
	Observe(ctx context.Context, in Inputs) (State, Values, error)
}

// lacking returns the name of the first output of s that is not among values, or "".
func lacking(s Step, values Values) string {
	for _, o := range s.Outputs() {
		if _, ok := values[o.Name]; !ok {
			return o.Name
		}
	}
	return ""
}

// State is what an [Observer] found.
type State struct {
	Present bool   // the values can be used as they are
	Reason  string // why not, in a clause such as "no local image"
}

func (v Values) digests() map[string]string {
	out := make(map[string]string, len(v))
	for name, value := range v {
		out[name] = value.Digest
	}
	return out
}

// validate checks that steps are in an order in which each reads only what an earlier one makes.
func validate(steps []Step) error {
	if len(steps) == 0 {
		return errors.New("the list of steps is empty")
	}
	made := map[Output]bool{}
	seen := map[ID]bool{}
	for _, s := range steps {
		if s.ID() == "" {
			return fmt.Errorf("a step of type %T has no ID", s)
		}
		if seen[s.ID()] {
			return fmt.Errorf("step %s is listed twice", s.ID())
		}
		seen[s.ID()] = true
		for _, in := range s.Inputs() {
			if !made[in] {
				return fmt.Errorf("step %s reads %s, which no earlier step makes", s.ID(), in)
			}
		}
		for _, out := range s.Outputs() {
			if out.Step != s.ID() {
				return fmt.Errorf("step %s claims the output %s", s.ID(), out)
			}
			if made[out] {
				return fmt.Errorf("step %s makes %s twice", s.ID(), out)
			}
			made[out] = true
		}
	}
	return nil
}
