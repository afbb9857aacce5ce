package bench

import (
	"fmt"
	"strings"
)

// A Stage is a part of the way that requests take.
type Stage string

// The stages that can limit.
const (
	LimitModel   Stage = "model"   // a model's instances have all the work they can do, or its queue waits too long
	LimitClient  Stage = "client"  // the client has no CPU left, or may have no more requests in flight
	LimitNetwork Stage = "network" // what is between the client and the server's models
	LimitNone    Stage = "none"    // nothing is full: a server that was asked for more would do more
	LimitUnknown Stage = "unknown" // there are too few figures to tell
)

// A Limit is the stage that kept a server from answering more requests, with the figures that say so.
type Limit struct {
	Stage Stage `json:"stage"`
	// Model is the model that limits; empty for other stages.
	Model string `json:"model,omitempty"`
	// Why has the figures, in one line.
	Why string `json:"why" jsonschema:"the figures that say so, in one line"`
}

// String names the stage, with its figures.
func (l Limit) String() string {
	switch l.Stage {
	case LimitClient:
		return "the client: " + l.Why
	case LimitNetwork:
		return "the network: " + l.Why
	case LimitNone:
		return "nothing: " + l.Why
	case LimitUnknown:
		return "unknown: " + l.Why
	case LimitModel: // named in Why
	}
	return l.Why
}

// The shares by which stages are told apart.
const (
	// fullBusy is when instances have no time left. They never are busy for all of it: a batch is formed and answered
	// between two executions.
	fullBusy = 0.9
	// queuedBusy is when they have none left if requests wait for them as well. On an H100 whose DALI instances limited,
	// they were busy 0.70 to 0.96 of the time, and those of the model behind them 0.2 to 0.6.
	queuedBusy = 0.65
	// longQueue is how long requests wait then: a part of the time that they are executed.
	longQueue = 0.5
	// fullCPU is when the client has no CPU left: the Go runtime has work of its own, which comes in bursts.
	fullCPU = 0.85
	// manySkipped is the part of the requests due that may be skipped before the client is to blame.
	manySkipped = 0.01
	// muchDelay is the part of the latency that requests may be sent late before the client is to blame.
	muchDelay = 0.25
	// reached is the part of the rate asked for that counts as all of it: requests at the window's end are answered
	// behind it.
	reached = 0.97
	// longLatency is the part of the window from which on a latency is too long for it: what was sent in the window and
	// what the server counted in it are different requests then, and neither rate nor mean tells of the other.
	longLatency = 0.2
	// most is the part of the latency that is most of it.
	most = 0.5
)

// FindLimit says which stage limited a measurement, by its figures alone; what it says in m.Limit is not looked at.
//
// A model limits whose instances are busy all the time, or much of it while requests wait for them: it is the busiest
// of those. Where there is none, the client does if it has no CPU left, skipped requests or sent them late; a model
// does where requests spend most of their time in its queue, though instances are free: they wait for a batch to fill;
// and the network does if most of the latency is spent outside of the server's models. An open loop whose requests
// were all answered in time is limited by none of these: by what was asked for. Where latencies are long
// beside the window, nobody knows, unless a model is full or the client is.
func FindLimit(m Measurement) Limit {
	full, isFull := fullModel(m)
	switch {
	case m.Answered == 0:
		return Limit{Stage: LimitUnknown, Why: "no request was answered"}
	case isFull:
		return Limit{Stage: LimitModel, Model: full.Model, Why: others(m, full)}
	}
	if why := clientLimit(m); why != "" {
		return Limit{Stage: LimitClient, Why: why}
	}
	if len(m.Models) == 0 || m.Models[0].Requests == 0 {
		why := m.ModelsMissing
		if why == "" {
			why = "it counted no request"
		}
		return Limit{Stage: LimitUnknown, Why: "the server's own account is missing: " + why}
	}
	if m.Latency.P50Seconds >= longLatency*m.WindowSeconds {
		return Limit{Stage: LimitUnknown, Why: fmt.Sprintf(
			"half of the requests took %s or more, which is too long for %.1f s of measuring: ask for less, or for longer; %s",
			ms(m.Latency.P50Seconds), m.WindowSeconds, busiest(m))}
	}
	keptUp := m.Load.Rate > 0 && !fallsShort(m)
	if s, ok := waitingModel(m); ok && !keptUp {
		return Limit{Stage: LimitModel, Model: s.Model, Why: fmt.Sprintf(
			"%s: %s though instances are free (busy %.2f): requests wait for others to fill a batch, at most %s",
			s.Model, queued(s), s.Busy, ms(s.BatchDelaySeconds))}
	}
	server := m.Models[0].RequestSeconds
	outside := max(0, m.Latency.MeanSeconds-server)
	where := fmt.Sprintf("%s of the mean latency of %s outside of the server's models, %s in them",
		ms(outside), ms(m.Latency.MeanSeconds), ms(server))
	switch {
	case keptUp:
		return Limit{Stage: LimitNone, Why: "the rate asked for was reached, and no model is full: " + where}
	case outside >= most*m.Latency.MeanSeconds:
		return Limit{Stage: LimitNetwork, Why: where + ": " + busiest(m)}
	}
	return Limit{Stage: LimitNone, Why: "more requests at a time would get more answers: " + busiest(m)}
}

// fullModel is the busiest of the models that have all the work they can do.
func fullModel(m Measurement) (Split, bool) {
	var full Split
	found := false
	behind := m.Load.Rate == 0 || fallsShort(m)
	for _, s := range m.Models {
		wait := max(0, s.QueueSeconds-s.BatchDelaySeconds)
		// In an open loop that keeps up, requests that come at random wait for each other now and then.
		queued := behind && s.Busy >= queuedBusy && wait >= longQueue*s.service()
		if s.Ensemble || s.Busy < fullBusy && !queued {
			continue
		}
		if !found || s.Busy > full.Busy {
			full, found = s, true
		}
	}
	return full, found
}

// waitingModel is the model in whose queue requests spend most of their time.
func waitingModel(m Measurement) (Split, bool) {
	for _, s := range m.Models {
		if !s.Ensemble && s.QueueSeconds >= most*m.Latency.MeanSeconds {
			return s, true
		}
	}
	return Split{}, false
}

// clientLimit says why the client limits, or nothing.
func clientLimit(m Measurement) string {
	if m.Client.Share >= fullCPU {
		return fmt.Sprintf("its CPU is busy %.2f of %d cores, %s a request", m.Client.Share, m.Client.Cores,
			us(m.Client.CPUPerRequestSeconds))
	}
	if due := m.Requests + m.Skipped; m.Skipped > 0 && float64(m.Skipped) >= manySkipped*float64(due) {
		return fmt.Sprintf("%d of %d requests were skipped, as %d were in flight; the busiest of the server: %s",
			m.Skipped, due, m.Load.MaxInFlight, busiest(m))
	}
	if delay := m.Client.SendDelay.MeanSeconds; delay > 0 && delay >= muchDelay*m.Latency.MeanSeconds {
		return fmt.Sprintf("requests were sent %s late, of a mean latency of %s", ms(delay),
			ms(m.Latency.MeanSeconds))
	}
	return ""
}

// fallsShort says whether an open loop did not get the answers that it asked for.
func fallsShort(m Measurement) bool {
	if m.Skipped > 0 && float64(m.Skipped) >= manySkipped*float64(m.Requests+m.Skipped) {
		return true
	}
	// What was due at the end of the window is answered behind it, also by a server that keeps up.
	inTime := 1.0
	if m.WindowSeconds > 0 {
		inTime = max(0, 1-m.Latency.P50Seconds/m.WindowSeconds)
	}
	return m.AchievedRate < reached*inTime*m.AskedRate
}

// others is "dali: 4 instances busy 0.91, queue 5.4 ms; resnet50_trt busy 0.22".
func others(m Measurement, first Split) string {
	instances := fmt.Sprintf("%d instances", first.Instances)
	if first.Instances == 1 {
		instances = "its instance"
	}
	parts := []string{fmt.Sprintf("%s: %s busy %.2f, %s", first.Model, instances, first.Busy, queued(first))}
	for _, s := range m.Models {
		if !s.Ensemble && s.Model != first.Model {
			parts = append(parts, fmt.Sprintf("%s busy %.2f", s.Model, s.Busy))
		}
	}
	return strings.Join(parts, "; ")
}

// busiest is others of the busiest model.
func busiest(m Measurement) string {
	var first Split
	for _, s := range m.Models {
		if !s.Ensemble && (first.Model == "" || s.Busy > first.Busy) {
			first = s
		}
	}
	if first.Model == "" {
		return "unknown"
	}
	return others(m, first)
}

func queued(s Split) string { return "queue " + ms(s.QueueSeconds) }

// ms is "5.4 ms".
func ms(seconds float64) string { return Milliseconds(seconds) + " ms" }

// Milliseconds writes seconds for people as the milliseconds that they are, with two digits or three: "5.4".
func Milliseconds(seconds float64) string {
	const inMillis = 1e3
	switch v := seconds * inMillis; {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// us is "36 µs".
func us(seconds float64) string {
	const inMicros = 1e6
	return fmt.Sprintf("%.0f µs", seconds*inMicros)
}
