// Package tune looks for the settings with which a server does most.
//
// A [Search] begins with the settings that a server has anyway, and changes one knob at a time. Each candidate is
// measured against the best so far, in turn, while both stand: a machine that becomes slower becomes so for both. It
// takes the best's place only if [better] says that the difference is more than noise, and in the end what was found
// has to prove itself once more, against the settings of the beginning. Who is not convinced keeps what there was.
//
// The search knows servers by [Server] alone, and the time by a function: it is tested in seeded worlds.
package tune

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Knob is one setting of a server, with the values that are tried.
type Knob struct {
	Key string // as in `serving:` of dalirun.yaml
	// Values are in the order of their effect: a value is tried from its neighbours on. An empty one stands for no value.
	Values []string
	Start  int // index of the value that the search begins with
}

// A Setting has the values of the knobs that are not as they were at the start, by key.
type Setting map[string]string

// String is "dali-threads=1, preferred-batch=8", or "the start".
func (s Setting) String() string {
	if len(s) == 0 {
		return "the start"
	}
	return strings.ReplaceAll(s.Assignments(), ",", ", ")
}

// Assignments are "dali-threads=1,preferred-batch=8".
func (s Setting) Assignments() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, key+"="+s[key])
	}
	return strings.Join(parts, ",")
}

// Figures are what one short measurement says of a server.
type Figures struct {
	PicturesPerSecond float64 `json:"pictures_per_second"`
	P50Seconds        float64 `json:"p50_seconds"`
	P99Seconds        float64 `json:"p99_seconds"`
}

// A Server has one setting. It is loaded, and warmed in the same way as any other.
type Server interface {
	// Measure loads the server for a moment: in the same way as any other with the same n. An error is of a server that
	// does not answer everything.
	Measure(ctx context.Context, n int) (Figures, error)
	// Stop ends it, also after the context of the search ended.
	Stop(ctx context.Context) error
}

// An Objective is what is to become better.
type Objective string

// The objectives.
const (
	Throughput Objective = "throughput" // pictures a second of a server that has all it can do
	Latency    Objective = "latency"    // the median latency of a server that has half of that
)

// Objectives are all of them, the usual one first.
func Objectives() []Objective { return []Objective{Throughput, Latency} }

// score is what is to become more.
func (o Objective) score(f Figures) float64 {
	if o == Latency {
		return 1 / f.P50Seconds
	}
	return f.PicturesPerSecond
}

// An Outcome is what a search found.
type Outcome struct {
	Best   Setting `json:"best"` // empty if nothing better than the start was proven
	Trials []Trial `json:"trials"`
	// Proof is Best against the start; nil where that is the start.
	Proof *Trial `json:"proof,omitempty"`
	// TrialSeconds is how long a trial takes that is not given up early, with the start of its server.
	TrialSeconds float64 `json:"trial_seconds"`
	// Interrupted says that the search was ended early. Best is what was proven until then.
	Interrupted bool `json:"interrupted"`
}

// rounds is how often each knob has its turn: one can be worth turning once another one was turned.
const rounds = 2

// A Search looks for the best setting of some knobs. All fields but Progress are required.
type Search struct {
	Knobs     []Knob
	Objective Objective
	// Budget is how long the search lasts at most, but for what takes longer than any before: the start of a server, or a
	// measurement.
	Budget time.Duration
	// Opening is how long the start of a server took so far.
	Opening time.Duration
	// Open starts a server.
	Open func(context.Context, Setting) (Server, error)
	Now  func() time.Time
	// Progress gets a line on each trial, when it begins and when it ended.
	Progress func(text string, ended bool)
}

// search is one at work.
type search struct {
	Search
	began   time.Time
	pairing time.Duration // the longest pair
	proving int           // how many pairs the proof will take, as far as trials tell
	start   Server
	best    Server
	values  []int // of the best, by knob
	tried   map[string]bool
	outcome Outcome
}

// Run searches, beginning with a server of the start, which stays the caller's. When ctx ends, it returns what was
// proven until then, marked as interrupted, and no error.
func (s Search) Run(ctx context.Context, start Server) (Outcome, error) {
	if s.Progress == nil {
		s.Progress = func(string, bool) {}
	}
	x := &search{
		Search: s, began: s.Now(), proving: pairs, start: start, best: start,
		tried:   map[string]bool{Setting(nil).Assignments(): true},
		outcome: Outcome{Best: Setting{}, Trials: []Trial{}},
	}
	for _, k := range s.Knobs {
		x.values = append(x.values, k.Start)
	}
	err := x.estimate(ctx)
	if err == nil {
		err = x.climb(ctx)
	}
	if err == nil && x.best != x.start && ctx.Err() == nil {
		err = x.prove(ctx)
	}
	x.outcome.TrialSeconds = (x.Opening + x.lasts(pairs)).Seconds()
	x.outcome.Interrupted = ctx.Err() != nil
	if x.best != x.start {
		err = errors.Join(err, x.best.Stop(ctx))
	}
	return x.outcome, err
}

// estimate measures the start twice, to know how long a pair takes.
func (x *search) estimate(ctx context.Context) error {
	_, err := x.start.Measure(ctx, 0)
	if err == nil {
		_, err = x.start.Measure(ctx, 1)
	}
	x.pairing = x.Now().Sub(x.began)
	if ctx.Err() == nil {
		return err
	}
	return nil // what was interrupted is no failure
}

// climb turns one knob at a time, until the time is over or nothing is left to be tried.
func (x *search) climb(ctx context.Context) error {
	for range rounds {
		for knob := range x.Knobs {
			for _, by := range []int{1, -1} {
				for turned := true; turned; {
					var err error
					if turned, err = x.turn(ctx, knob, by); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// left is the time that is left.
func (x *search) left() time.Duration { return x.Budget - x.Now().Sub(x.began) }

// hasTime says whether there is time for another trial, and for the proof of what was found.
func (x *search) hasTime(ctx context.Context) bool {
	return ctx.Err() == nil && x.left() >= x.Opening+x.lasts(pairs)+x.proof()
}

// lasts is how long so many pairs take at most.
func (x *search) lasts(n int) time.Duration { return time.Duration(n) * x.pairing }

// proof is how long the proof takes of what was found, 0 if nothing was.
func (x *search) proof() time.Duration {
	if x.best == x.start {
		return 0
	}
	return x.lasts(x.proving)
}

// turn tries the next value of a knob, and says whether it is better. Without a next value, without time and after the
// end of ctx nothing is.
func (x *search) turn(ctx context.Context, knob, by int) (bool, error) {
	values := slices.Clone(x.values)
	values[knob] += by
	if values[knob] < 0 || values[knob] >= len(x.Knobs[knob].Values) || !x.hasTime(ctx) {
		return false, nil
	}
	candidate := x.setting(values)
	if x.tried[candidate.Assignments()] {
		return false, nil
	}
	x.tried[candidate.Assignments()] = true
	x.Progress("starting a server with "+candidate.String(), false)
	began := x.Now()
	server, err := x.Open(ctx, candidate)
	x.Opening = max(x.Opening, x.Now().Sub(began))
	if err != nil {
		t := Trial{Candidate: candidate, Against: x.setting(x.values), Pairs: []Pair{}, Verdict: Failed, Why: err.Error()}
		if ctx.Err() != nil {
			t.Verdict, t.Why = Unfinished, ""
		}
		x.end(t)
		return false, nil
	}
	t, err := x.compare(ctx, server, candidate, x.best, x.setting(x.values))
	if err != nil {
		return false, errors.Join(err, server.Stop(ctx))
	}
	x.end(t)
	if t.Verdict != Better {
		return false, server.Stop(ctx)
	}
	old := x.best
	if old == x.start { // proven against the start already
		x.outcome.Best, x.outcome.Proof = candidate, &t
	} else {
		err = old.Stop(ctx)
	}
	x.best, x.values, x.proving = server, values, max(x.proving, len(t.Pairs))
	return true, err
}

func (x *search) end(t Trial) {
	x.outcome.Trials = append(x.outcome.Trials, t)
	x.Progress(t.String(), true)
}

// setting returns what differs from the start.
func (x *search) setting(values []int) Setting {
	s := Setting{}
	for i, k := range x.Knobs {
		if values[i] != k.Start {
			s[k.Key] = k.Values[values[i]]
		}
	}
	return s
}

// prove measures the best against the start anew. Of many candidates that were tried, one that is no better may have
// been lucky once.
func (x *search) prove(ctx context.Context) error {
	best := x.setting(x.values)
	t, err := x.compare(ctx, x.best, best, x.start, Setting{})
	if err != nil {
		return err
	}
	x.Progress("the proof: "+t.String(), true)
	switch t.Verdict {
	case Better:
		x.outcome.Best, x.outcome.Proof = best, &t
	case Unfinished: // what was proven before it stands
	case NoBetter, Failed:
		x.outcome.Best, x.outcome.Proof = Setting{}, nil
		x.outcome.Trials = append(x.outcome.Trials, t)
	}
	return nil
}
