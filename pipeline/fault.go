package pipeline

import (
	"errors"
	"fmt"
	"time"
)

// Kind says whose turn it is after an error. Each kind has an exit code.
type Kind int

// The kinds of error.
const (
	Unclassified    Kind = iota
	Usage                // the user's: a flag, a file, an argument
	Environment          // the machine's: no container engine, no GPU, no image, no weights, no room
	ContainerFailed      // a step's container ended with an error
	NotReady             // the server did not become ready
	NotVerified          // the server's answers are not the model's
	GateFailed           // a performance or accuracy gate
)

// String is one word or two for the kind, where a program reads which it was.
func (k Kind) String() string {
	switch k {
	case Usage:
		return "usage"
	case Environment:
		return "environment"
	case ContainerFailed:
		return "container"
	case NotReady:
		return "not ready"
	case NotVerified:
		return "not verified"
	case GateFailed:
		return "gate"
	case Unclassified:
	}
	return "unclassified"
}

// Fault is an error that says what to do next. Err says once what was tried, on what, and what came of it.
type Fault struct { //nolint:errname // FaultError would say it twice, and it is written in every step
	Kind   Kind
	Err    error
	Hint   string   // what to do next
	Tail   []string // the last lines of output
	Repeat string   // the command line that repeats it by hand
}

// Error returns the error without the hint.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// Faultf returns a Fault of a kind with a formatted error and a hint.
func Faultf(kind Kind, hint, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// Usagef returns a Fault of the kind Usage with a formatted error and a hint.
func Usagef(hint, format string, args ...any) *Fault { return Faultf(Usage, hint, format, args...) }

// HintOf returns the hint of the Fault in err; empty without one.
func HintOf(err error) string {
	if fault, ok := errors.AsType[*Fault](err); ok {
		return fault.Hint
	}
	return ""
}

// StepError says which step failed, and after how long.
type StepError struct {
	Step    ID
	Elapsed time.Duration
	Err     error
}

// Error returns "step: error".
func (e *StepError) Error() string { return string(e.Step) + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *StepError) Unwrap() error { return e.Err }
