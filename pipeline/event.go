package pipeline

import (
	"encoding/json"
	"time"
)

// EventVersion is the version of the events' JSON form. It grows when a reader of the old form would go wrong.
const EventVersion = 2

// Event is one thing that happened. Events are the only output of a run: renderers, logs on disk, the JSON stream and
// reports read the same ones. See docs/events.md for the JSON form.
type Event struct {
	Run     string
	Time    time.Time
	Step    ID // empty for events of the whole run
	Payload Payload
}

// Sink takes events. It is called from several goroutines and does not block for long.
type Sink interface{ Emit(Event) }

// Payload is what an [Event] tells: one of the types of this package.
type Payload interface{ kind() string }

// The payloads.
type (
	// RunStarted opens a run. Facts are those that hold for all of it: lane, image source, weights.
	RunStarted struct {
		Steps []ID              `json:"steps"`
		Facts map[string]string `json:"facts,omitempty"`
	}
	// Decided says what will become of a step, and why.
	Decided struct {
		Verdict
	}
	// Fingerprinted says under which fingerprint a Builder's result is stored, and the facts that it is of. A step whose
	// inputs turned out otherwise than they were identified tells of it again.
	Fingerprinted struct {
		Fingerprint Fingerprint `json:"fingerprint"`
		Facts       Facts       `json:"facts"`
	}
	// Started opens a step that does work.
	Started struct{}
	// Line is one line of a step's output.
	Line struct {
		Text string `json:"text"`
	}
	// Progress is how far a step is. Total is zero where it is not known. Unit is "B" for bytes.
	Progress struct {
		Text    string `json:"text"`
		Current int64  `json:"current"`
		Total   int64  `json:"total,omitempty"`
		Unit    string `json:"unit,omitempty"`
	}
	// Warning is something that a user should know and that stops nothing.
	Warning struct {
		Text string `json:"text"`
	}
	// Result is a figure or a finding of a step, for reports.
	Result struct {
		Name  string `json:"name"`
		Value any    `json:"value"`
	}
	// Ended closes a step.
	Ended struct {
		State   EndState      `json:"state"`
		Elapsed time.Duration `json:"-"`
		Reason  string        `json:"reason,omitempty"` // why it was skipped
		// Digests identify the step's outputs by name, where it ended with some.
		Digests map[string]string `json:"digests,omitempty"`
		Err     error             `json:"-"`
	}
	// RunEnded closes a run. Err is nil for one that did all it should.
	RunEnded struct {
		Elapsed time.Duration `json:"-"`
		Err     error         `json:"-"`
	}
)

// EndState is how a step ended.
type EndState string

// The ends of a step.
const (
	Done      EndState = "done"
	Cached    EndState = "cached"
	Skipped   EndState = "skipped"
	Failed    EndState = "failed"
	Cancelled EndState = "cancelled"
)

func (RunStarted) kind() string    { return "run.started" }
func (Decided) kind() string       { return "step.decided" }
func (Fingerprinted) kind() string { return "step.fingerprinted" }
func (Started) kind() string       { return "step.started" }
func (Line) kind() string          { return "step.line" }
func (Progress) kind() string      { return "step.progress" }
func (Warning) kind() string       { return "warning" }
func (Result) kind() string        { return "step.result" }
func (Ended) kind() string         { return "step.ended" }
func (RunEnded) kind() string      { return "run.ended" }

// MarshalJSON adds the seconds and the error's text.
func (e Ended) MarshalJSON() ([]byte, error) {
	type plain Ended
	return json.Marshal(struct {
		plain
		Seconds float64 `json:"seconds"`
		Error   string  `json:"error,omitempty"`
	}{plain(e), e.Elapsed.Seconds(), text(e.Err)})
}

// MarshalJSON adds the seconds and the error's text.
func (e RunEnded) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Seconds float64 `json:"seconds"`
		Error   string  `json:"error,omitempty"`
	}{e.Elapsed.Seconds(), text(e.Err)})
}

// MarshalJSON returns {"v", "run", "time", "step", "kind", "data"}.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		V    int       `json:"v"`
		Run  string    `json:"run"`
		Time time.Time `json:"time"`
		Step ID        `json:"step,omitempty"`
		Kind string    `json:"kind"`
		Data Payload   `json:"data"`
	}{EventVersion, e.Run, e.Time, e.Step, e.Payload.kind(), e.Payload})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
