package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dalirun/dalirun/triton"
)

// State is what an inference says of a server.
type State string

// The states. Nothing is wrong with the server in the first three.
const (
	Healthy  State = "healthy"  // it answered
	Busy     State = "busy"     // it gave no right answer in time, and answered somebody else meanwhile
	Stopping State = "stopping" // it takes no requests any more, and answers those that it has
	Starting State = "starting" // it is not ready yet, and its run is at work
	Failing  State = "failing"  // it answers with errors
	Stuck    State = "stuck"    // it is live, and nobody gets an answer
	Unloaded State = "unloaded" // the model is not loaded
	Silent   State = "silent"   // it does not even say whether it is live
	Ended    State = "ended"    // its container has ended
)

// States are all states, each with what it means, in the order in which people are told of them.
func States() []struct {
	State State
	Means string
} {
	return []struct {
		State State
		Means string
	}{
		{Healthy, "it answered"},
		{Busy, "it answers others meanwhile"},
		{Stopping, "it answers what it has, and takes nothing more"},
		{Starting, "its run has not made it ready yet"},
		{Failing, "it answers with errors"},
		{Stuck, "it is live, and nobody gets an answer"},
		{Unloaded, "the model is not loaded"},
		{Silent, "it does not even say whether it is live"},
		{Ended, "its container has ended"},
	}
}

// Health is what was found of a server.
type Health struct {
	State  State  `json:"state"`
	Model  string `json:"model,omitempty"`  // that was asked; empty where it is about no model
	Reason string `json:"reason,omitempty"` // why it is not healthy, mostly in the server's words
	Mend   string `json:"mend,omitempty"`   // the command that makes it healthy again, for a shell
	// MendNote says what that command does not know of the server; empty where the server is started again as it was.
	MendNote string `json:"mend_note,omitempty"`
}

// OK says whether nothing is wrong with the server.
func (h Health) OK() bool { return h.State == Healthy || h.State == Busy || h.State == Stopping }

// Drains says whether requests may be in flight that would still be answered. Of a server that is stuck nobody knows: what
// it works on may be a large batch.
func (h Health) Drains() bool { return h.OK() || h.State == Stuck }

// NotHealthy is the word for each state in which something is wrong.
const NotHealthy = "not healthy"

// Word is the state for people: [NotHealthy] where something is wrong, which the reason tells.
func (s State) Word() string {
	switch s {
	case Failing, Stuck, Unloaded, Silent, Ended:
		return NotHealthy
	case Healthy, Busy, Stopping, Starting:
	}
	return string(s)
}

// String is the state in words, with the reason.
func (h Health) String() string {
	text := h.State.Word()
	if h.State == Healthy {
		return text
	}
	if h.Model != "" {
		text += ": " + h.Model
	}
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// A Probe is an inference that a healthy server answers.
type Probe struct {
	Model   string
	Picture []byte
	// Reply is how long the server may take for what needs no model; the queue in front of a model is no part of it.
	Reply time.Duration
	// Within is how long the answer of the model may take, after errors in between too.
	Within time.Duration
}

const (
	// A model that shares batches can fail for another client's picture; two errors on end are its own.
	tries = 2
	// retryAfter lets a batch pass in which another client's picture was.
	retryAfter = 100 * time.Millisecond
)

// Judge asks the server on a host. It returns within Within and four times Reply; the error is
// the cause of a ctx that ended before. It keeps no connection, which a server that drains would wait for.
func (p Probe) Judge(ctx context.Context, host triton.Host) (Health, error) {
	client, err := triton.DialIn(host)
	if err != nil {
		return Health{}, err
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	h := p.judge(ctx, client)
	if ctx.Err() != nil {
		return Health{}, context.Cause(ctx)
	}
	return h, nil
}

func (p Probe) judge(ctx context.Context, client *triton.Client) Health {
	if h := p.loaded(ctx, client); h.State != Healthy {
		return h
	}
	before, err := p.answered(ctx, client)
	if err != nil {
		return p.unanswered(err)
	}
	failed, err := p.ask(ctx, client)
	if err == nil {
		return Health{State: Healthy}
	}
	after, statErr := p.answered(ctx, client)
	switch {
	case errors.Is(err, triton.ErrNotFound): // it was restarted, or unloaded, since the first question
		return p.loaded(ctx, client)
	case statErr != nil:
		return p.unanswered(statErr)
	case after.right > before.right:
		return Health{State: Busy, Model: p.Model, Reason: "others were answered meanwhile: " + reason(err)}
	case failed != nil:
		return Health{State: Failing, Model: p.Model, Reason: reason(failed)}
	case errors.Is(err, triton.ErrUnavailable): // its queue is full
		return Health{State: Busy, Model: p.Model, Reason: reason(err)}
	case after.all > before.all+tries: // a server that refuses what others send does work; those are more than were asked here
		return Health{State: Busy, Model: p.Model, Reason: "others were refused meanwhile: " + reason(err)}
	default:
		return Health{State: Stuck, Model: p.Model, Reason: fmt.Sprintf("nobody got an answer within %s: it hangs, or it works on a large batch", p.Within)}
	}
}

// ask returns nil if the model answers, else how the last try ended; failed is the last error that the model answered.
func (p Probe) ask(ctx context.Context, client *triton.Client) (failed, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	for range tries {
		if _, err = client.Classify(ctx, p.Model, p.Picture, 1); err == nil {
			return nil, nil
		}
		if !isAnswer(err) {
			return failed, err
		}
		failed = err
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return failed, err
		}
	}
	return failed, err
}

// isAnswer says whether an error is the model's.
func isAnswer(err error) bool {
	return !slices.ContainsFunc([]error{context.DeadlineExceeded, context.Canceled, triton.ErrUnavailable, triton.ErrNotFound},
		func(other error) bool { return errors.Is(err, other) })
}

// loaded is Healthy if the server says that the model is loaded.
func (p Probe) loaded(ctx context.Context, client *triton.Client) Health {
	ctx, cancel := context.WithTimeout(ctx, p.Reply)
	defer cancel()
	index, err := client.RepositoryIndex(ctx)
	if err != nil {
		return p.unanswered(err)
	}
	asked := func(e triton.IndexEntry) bool { return e.State != "" }
	if len(index) == 0 {
		return Health{State: Unloaded, Reason: "its model repository is empty"}
	}
	if !slices.ContainsFunc(index, asked) { // it was ready once, so it had been asked to load them
		return Health{State: Unloaded, Reason: "it was restarted and has no models loaded"}
	}
	for _, e := range index {
		switch {
		case e.Name != p.Model:
			continue
		case e.State == triton.StateReady:
			return Health{State: Healthy}
		case e.State == "":
			return Health{State: Unloaded, Model: p.Model, Reason: "it is not loaded"}
		case e.Reason == "":
			return Health{State: Unloaded, Model: p.Model, Reason: "it is " + string(e.State)}
		default:
			return Health{State: Unloaded, Model: p.Model, Reason: fmt.Sprintf("it is %s: %s", e.State, e.Reason)}
		}
	}
	return Health{State: Unloaded, Model: p.Model, Reason: "its model repository does not have it"}
}

// answers counts the requests that a model answered since it was loaded.
type answers struct{ right, all uint64 }

func (p Probe) answered(ctx context.Context, client *triton.Client) (answers, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Reply)
	defer cancel()
	var n answers
	all, err := client.Statistics(ctx, p.Model)
	if errors.Is(err, triton.ErrNotFound) {
		return n, nil // it is not loaded, which shows elsewhere
	}
	for _, s := range all {
		n.right += s.Success.Count
		n.all += s.Success.Count + s.Fail.Count
	}
	return n, err
}

// unanswered is the health of a server that said nothing to a question that needs no model.
func (p Probe) unanswered(err error) Health {
	if isStopping(err) {
		return Health{State: Stopping, Reason: "it takes no requests: " + reason(err)}
	}
	if errors.Is(err, triton.ErrUnavailable) {
		return Health{State: Silent, Reason: "it cannot be reached: " + reason(err)}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return Health{State: Failing, Reason: reason(err)} // it answered
	}
	return Health{State: Silent, Reason: fmt.Sprintf("it does not answer at all (waited %s): it hangs or is paused", p.Reply)}
}

// isStopping says whether a server answered that it drains. Nothing but Triton's words tells that from a server that cannot be
// reached.
func isStopping(err error) bool {
	return errors.Is(err, triton.ErrUnavailable) && slices.Contains([]string{"server not ready", "server exiting"}, reason(err))
}

// reason is an error in the server's own words.
func reason(err error) string {
	if answer, ok := errors.AsType[*triton.Error](err); ok {
		return answer.Message
	}
	return err.Error()
}
