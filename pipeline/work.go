package pipeline

import (
	"context"
	"maps"
	"path/filepath"
	"sync"

	"github.com/dalirun/dalirun/pipeline/lines"
)

// Work is what a step gets to run with.
type Work struct {
	Dir string // a Builder's fresh folder for its outputs; empty for others

	inputs Inputs
	emit   func(Payload)
	later  func(name string, undo func(context.Context) error)

	mu     sync.Mutex
	values Values
	lines  []*lines.Writer
}

// NewWork returns a Work for a step that a test runs alone. A Runner makes its own.
func NewWork(
	dir string, inputs Inputs, emit func(Payload), later func(name string, undo func(context.Context) error),
) *Work {
	return &Work{Dir: dir, inputs: inputs, emit: emit, later: later, values: Values{}}
}

// Input returns the value of an output that the step reads.
func (w *Work) Input(o Output) Value { return w.inputs[o] }

// Path returns where a Builder writes the output of a name.
func (w *Work) Path(name string) string { return filepath.Join(w.Dir, name) }

// Set says what an output of a step that is no Builder turned out to be.
func (w *Work) Set(name string, v Value) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values[name] = v
}

// Values returns what was Set.
func (w *Work) Values() Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.values)
}

// Emit tells of something.
func (w *Work) Emit(p Payload) { w.emit(p) }

// Defer registers an undo for the end of the run, in last-in-first-out order. It gets a context that outlives the run's
// and has a deadline of its own. Register before the thing to undo exists.
func (w *Work) Defer(name string, undo func(context.Context) error) { w.later(name, undo) }

// Lines returns a writer for one stream of output: each line becomes a [Line] event and goes to the readers. Writers of
// one step do not mix their lines. An unfinished last line is told of when the step ends, or by Flush.
func (w *Work) Lines(readers ...func(line string)) *lines.Writer {
	l := lines.NewWriter(func(line string) {
		w.emit(Line{Text: line})
		for _, read := range readers {
			read(line)
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, l)
	return l
}

func (w *Work) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		l.Flush()
	}
}
