package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dalirun/dalirun/triton"
)

// State is the state of a server, as an inference shows it.
type State string

// The states. Nothing is wrong with the server in the first three.
const (
	Healthy  State = "healthy"  // it answered
	Busy     State = "busy"     // it did not answer the inference in time, and answered other clients meanwhile
	Stopping State = "stopping" // it takes no requests any more, and answers those that it has
	Starting State = "starting" // it is not ready yet, and its run is at work
	Failing  State = "failing"  // it answers with errors
	Stuck    State = "stuck"    // it is live, and no client gets an answer
	Unloaded State = "unloaded" // the model is not loaded
	Silent   State = "silent"   // it does not even say whether it is live
	Ended    State = "ended"    // its container has ended
	// NotJudged is that of a server that could not be judged, as when the container engine does not answer. It says
	// nothing about the server.
	NotJudged State = "unknown"
)

// States returns all states with their meanings, in the order in which help texts list them.
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
		{NotJudged, "it could not be found out"},
		{Failing, "it answers with errors"},
		{Stuck, "it is live, and nobody gets an answer"},
		{Unloaded, "the model is not loaded"},
		{Silent, "it does not even say whether it is live"},
		{Ended, "its container has ended"},
	}
}

// Health is the judgement of a server.
type Health struct {
	State  State  `json:"state"`
	Model  string `json:"model,omitempty"`  // the model that is concerned; empty if none is
	Reason string `json:"reason,omitempty"` // why it is not healthy, mostly in the server's words
	Mend   string `json:"mend,omitempty"`   // the command that makes it healthy again, for a shell
	// MendNote says which settings of the server Mend does not restore; empty if it restores all.
	MendNote string `json:"mend_note,omitempty"`
}

// OK reports whether nothing is wrong with the server.
func (h Health) OK() bool { return h.State == Healthy || h.State == Busy || h.State == Stopping }

// Drains reports whether requests in flight may still be answered. A stuck server may, since it may work on a large
// batch, and so may one that could not be judged.
func (h Health) Drains() bool { return h.OK() || h.State == Stuck || h.State == NotJudged }

// NotHealthy is the word for every state in which something is wrong.
const NotHealthy = "not healthy"

// Word returns the state for people: [NotHealthy] where something is wrong, which the reason explains.
func (s State) Word() string {
	switch s {
	case Failing, Stuck, Unloaded, Silent, Ended:
		return NotHealthy
	case Healthy, Busy, Stopping, Starting, NotJudged:
	}
	return string(s)
}

// String returns the state in words, with the reason.
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
	// Reply bounds the answer to a request that needs no model and waits in no queue.
	Reply time.Duration
	// Within bounds the inference, all of its tries included.
	Within time.Duration
}

const (
	// tries is how often an inference is tried: a model that shares batches can fail once for another client's picture.
	tries = 2
	// retryAfter lets the batch with another client's picture pass.
	retryAfter = 100 * time.Millisecond
)

// Judge judges the server on a host. It takes at most 20 s for the connection, Within, and four times Reply. The error
// is the cause of ctx's end. It keeps no connection, for which a server that drains would wait.
func (p Probe) Judge(ctx context.Context, host triton.Host) (Health, error) {
	l := newLink(host)
	defer l.close()
	client, err := triton.DialIn(l)
	if err != nil {
		return Health{}, err
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	var h Health
	if err := l.connect(ctx); err != nil {
		h = unreached(err)
	} else {
		h = p.judge(ctx, client)
	}
	if ctx.Err() != nil {
		return Health{}, context.Cause(ctx)
	}
	return h, nil
}

// unreached returns the health of a server to which no connection could be made.
func unreached(err error) Health {
	if isNoVerdict(err) {
		return Health{State: NotJudged, Reason: err.Error()}
	}
	return Health{State: Silent, Reason: "it cannot be reached: " + err.Error()}
}

func (p Probe) judge(ctx context.Context, client *triton.Client) Health {
	if h := p.loaded(ctx, client); h.State != Healthy {
		return h
	}
	before, err := p.answered(ctx, client)
	if err != nil {
		return p.unanswered(err)
	}
	failed, err := p.classify(ctx, client)
	if err == nil {
		return Health{State: Healthy}
	}
	after, statErr := p.answered(ctx, client)
	switch {
	case errors.Is(err, triton.ErrNotFound): // the server was restarted or the model unloaded meanwhile
		return p.loaded(ctx, client)
	case statErr != nil:
		return p.unanswered(statErr)
	case after.right > before.right:
		return Health{State: Busy, Model: p.Model, Reason: "others were answered meanwhile: " + reason(err)}
	case failed != nil:
		return Health{State: Failing, Model: p.Model, Reason: reason(failed)}
	case errors.Is(err, triton.ErrUnavailable): // its queue is full
		return Health{State: Busy, Model: p.Model, Reason: reason(err)}
	// other clients got errors too: the server works
	case after.all > before.all+tries:
		return Health{State: Busy, Model: p.Model, Reason: "others were refused meanwhile: " + reason(err)}
	default:
		return Health{
			State: Stuck, Model: p.Model,
			Reason: fmt.Sprintf("nobody got an answer within %s: it hangs, or it works on a large batch", p.Within),
		}
	}
}

// classify returns nil if the model answers, else the error of the last try. failed is the last error that is the
// model's own answer.
func (p Probe) classify(ctx context.Context, client *triton.Client) (failed, err error) {
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

// isAnswer reports whether an error is the model's own answer.
func isAnswer(err error) bool {
	sentinels := []error{context.DeadlineExceeded, context.Canceled, triton.ErrUnavailable, triton.ErrNotFound}
	return !slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// loaded returns Healthy if the server lists the model as ready.
func (p Probe) loaded(ctx context.Context, client *triton.Client) Health {
	ctx, cancel := context.WithTimeout(ctx, p.Reply)
	defer cancel()
	index, err := client.RepositoryIndex(ctx)
	if err != nil {
		return p.unanswered(err)
	}
	hasState := func(e triton.IndexEntry) bool { return e.State != "" }
	if len(index) == 0 { // also of a server whose folder somebody removed, which goes on answering
		ready, err := client.ModelReady(ctx, p.Model)
		switch {
		case err != nil && !errors.Is(err, triton.ErrNotFound):
			return p.unanswered(err)
		case ready:
			return Health{State: Healthy}
		default:
			return Health{State: Unloaded, Reason: "its model repository is empty"}
		}
	}
	if !slices.ContainsFunc(index, hasState) { // before it was ready, the run had it load them
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

// answers counts the requests that a model answered since it was loaded: those without an error, and all.
type answers struct{ right, all uint64 }

func (p Probe) answered(ctx context.Context, client *triton.Client) (answers, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Reply)
	defer cancel()
	var n answers
	all, err := client.Statistics(ctx, p.Model)
	if errors.Is(err, triton.ErrNotFound) {
		return n, nil // the model is not loaded, which loaded finds
	}
	for _, s := range all {
		n.right += s.Success.Count
		n.all += s.Success.Count + s.Fail.Count
	}
	return n, err
}

// unanswered returns the health of a server that failed a request that needs no model.
func (p Probe) unanswered(err error) Health {
	if isStopping(err) {
		return Health{State: Stopping, Reason: "it takes no requests: " + reason(err)}
	}
	if errors.Is(err, triton.ErrUnavailable) {
		return Health{State: Silent, Reason: "it cannot be reached: " + reason(err)}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return Health{State: Failing, Reason: reason(err)} // the error is the server's answer
	}
	return Health{State: Silent, Reason: fmt.Sprintf("it does not answer at all (waited %s): it hangs or is paused",
		p.Reply)}
}

// isStopping reports whether a server answered that it drains. Only Triton's words distinguish that from a server that
// cannot be reached.
func isStopping(err error) bool {
	return errors.Is(err, triton.ErrUnavailable) &&
		slices.Contains([]string{"server not ready", "server exiting"}, reason(err))
}

// reason returns an error in the server's own words.
func reason(err error) string {
	if answer, ok := errors.AsType[*triton.Error](err); ok {
		return answer.Message
	}
	return err.Error()
}
