package pipeline

import (
	"bytes"
	"context"
	"io"
	"maps"
	"path/filepath"
	"sync"
	"unicode/utf8"
)

// Work is what a step gets to run with.
type Work struct {
	Dir string // a Builder's fresh folder for its outputs; empty for others

	inputs Inputs
	emit   func(Payload)
	later  func(name string, undo func(context.Context) error)

	mu     sync.Mutex
	values Values
	lines  []*lineWriter
}

// NewWork returns a Work for a step that a test runs alone. A Runner makes its own.
func NewWork(dir string, inputs Inputs, emit func(Payload), later func(name string, undo func(context.Context) error)) *Work {
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

// Lines returns a writer that turns what is written into [Line] events. Writers of one step do not mix their lines.
// An unfinished last line is told of when the step ends.
func (w *Work) Lines() io.Writer {
	l := &lineWriter{emit: w.emit}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, l)
	return l
}

func (w *Work) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		l.flush()
	}
}

// maxLine bounds what a process without line breaks can make us hold.
const maxLine = 64 << 10

type lineWriter struct {
	emit func(Payload)
	mu   sync.Mutex
	rest []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) < maxLine {
			return len(p), nil
		}
		if i < 0 { // cut an endless line, losing nothing
			end := wholeLetters(l.rest)
			l.emit(Line{Text: string(l.rest[:end])})
			l.rest = append(l.rest[:0], l.rest[end:]...)
			return len(p), nil
		}
		l.emit(Line{Text: string(bytes.TrimRight(l.rest[:i], "\r"))})
		l.rest = append(l.rest[:0], l.rest[i+1:]...)
	}
}

// wholeLetters returns the length of text without a UTF-8 sequence at its end that goes on in what is written next.
func wholeLetters(text []byte) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) && !utf8.FullRune(text[i:]) {
			return i
		}
	}
	return len(text)
}

func (l *lineWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.emit(Line{Text: string(bytes.TrimRight(l.rest, "\r"))})
		l.rest = nil
	}
}
