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
	"fmt"
	"maps"
	"math"
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

// A Verdict says what came of a candidate.
type Verdict string

// The verdicts.
const (
	Better     Verdict = "better"
	NoBetter   Verdict = "no better"
	Failed     Verdict = "failed"     // its server did not start, or did not answer everything
	Unfinished Verdict = "unfinished" // the time was over, or the search was interrupted
)

// A Trial is a candidate, and the best so far, measured in turn.
type Trial struct {
	Candidate Setting `json:"candidate"`
	Against   Setting `json:"against"`
	Pairs     []Pair  `json:"pairs"`
	// Gain is the mean of the pairs, as a share of what the other did: 0.1 is a tenth more pictures a second, or a median
	// that is by a tenth less. Least is its lower bound when it was last looked at, 0 for a trial that ended before.
	Gain    float64 `json:"gain"`
	Least   float64 `json:"gain_at_least"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"` // of one that failed
}

// A Pair is one measurement of the candidate, and one of the other just before or after it.
type Pair struct {
	Candidate Figures `json:"candidate"`
	Against   Figures `json:"against"`
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

const (
	// pairs is after how many pairs a trial is looked at. It is even: each second pair has the candidate first, so that a
	// machine that becomes slower favours neither.
	pairs = 8
	// leastGain is the gain below which no other setting is worth it: servers that are alike were seen to differ by as
	// much for as long as they run.
	leastGain = 0.03
	// fewPairs are enough to give up a candidate whose mean is below leastGain. It costs some candidates that are hardly
	// better, and none that is not can be taken for better by it.
	fewPairs = 3
	// rounds is how often each knob has its turn: one can be worth turning once another one was turned.
	rounds = 2
)

// quantiles are Student's t for a one-sided 99.8 %, by the number of pairs at which a trial is looked at. Three looks
// take less than one in a hundred candidates for better that are not.
func quantiles() map[int]float64 {
	return map[int]float64{pairs: 4.207, 2 * pairs: 3.395, mostPairs: 3.198}
}

// mostPairs is how many pairs a trial has at most. With more noise than that resolves, no gain is found.
const mostPairs = 3 * pairs

// better says whether the logarithms of a candidate's figures, each as a share of the other's, are those of a better
// one: their mean is a gain that is worth it, and lies above nothing by more than their noise explains (a paired
// t-test, one-sided). Nothing is when no look is due.
func better(ratios []float64) (mean, least float64, yes bool) {
	n := float64(len(ratios))
	for _, r := range ratios {
		mean += r / n
	}
	var squares float64
	for _, r := range ratios {
		squares += (r - mean) * (r - mean)
	}
	quantile, due := quantiles()[len(ratios)]
	if !due {
		return mean, 0, false
	}
	least = mean - quantile*math.Sqrt(squares/(n-1)/n)
	return mean, least, least > 0 && mean >= math.Log1p(leastGain)
}

// A Search looks for the best setting of some knobs. All fields but Told are required.
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
	// Told gets a line on each trial, when it begins and when it ended.
	Told func(text string, ended bool)
}

// errStart is of a start that does not answer everything any more, which no candidate can be compared with.
var errStart = errors.New("the best server so far does not answer everything any more")

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
	if s.Told == nil {
		s.Told = func(string, bool) {}
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
	x.Told("starting a server with "+candidate.String(), false)
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
	x.Told(t.String(), true)
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
	x.Told("the proof: "+t.String(), true)
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

// compare measures a candidate and another server in turn, until they can be told apart or the time is over. It is an
// error if the other one does not answer.
func (x *search) compare(
	ctx context.Context, candidate Server, setting Setting, other Server, against Setting,
) (Trial, error) {
	t := Trial{Candidate: setting, Against: against, Pairs: []Pair{}}
	var ratios []float64
	for t.Verdict == "" {
		x.Told(fmt.Sprintf("%s: pair %d", setting, len(ratios)+1), false)
		at := x.Now()
		pair, failed, err := measurePair(ctx, candidate, other, len(ratios))
		x.pairing = max(x.pairing, x.Now().Sub(at))
		switch {
		case ctx.Err() != nil:
			t.Verdict = Unfinished
			return t, nil //nolint:nilerr // what was interrupted is no failure
		case err != nil:
			return t, err
		case failed != nil:
			t.Verdict, t.Why = Failed, failed.Error()
			return t, nil //nolint:nilerr // it is told of in the trial
		}
		t.Pairs = append(t.Pairs, pair)
		ratios = append(ratios, math.Log(x.Objective.score(pair.Candidate)/x.Objective.score(pair.Against)))
		x.judge(&t, ratios, candidate == x.best)
	}
	return t, nil
}

// judge sets the verdict of a trial, or of the proof, if it has one by now.
func (x *search) judge(t *Trial, ratios []float64, proof bool) {
	n := len(ratios)
	mean, least, yes := better(ratios)
	t.Gain = math.Expm1(mean)
	// What follows a trial needs its time: the proof of what was found, or of this candidate if it is looked at again.
	behind, again := x.proof(), max(x.proof(), x.lasts(n+pairs))
	if proof {
		behind, again = 0, 0
	}
	look := n%pairs == 0
	if look {
		t.Least = math.Expm1(least)
	}
	switch {
	case yes:
		t.Verdict = Better
	case n == mostPairs, n >= fewPairs && mean < math.Log1p(leastGain), look && x.left() < x.lasts(pairs)+again:
		t.Verdict = NoBetter
	case x.left() < x.pairing+behind:
		t.Verdict = Unfinished
	}
}

// measurePair measures a candidate and the other one, each second time the candidate first. failed is of a candidate
// that does not answer everything, err of the other one, which is asked once more: the candidate may have been in its
// way.
func measurePair(ctx context.Context, candidate, other Server, n int) (p Pair, failed, err error) {
	candidateFirst := n%2 == 0
	if candidateFirst {
		p.Candidate, failed = candidate.Measure(ctx, n)
	}
	if failed == nil {
		if p.Against, err = other.Measure(ctx, n); err != nil {
			failed = fmt.Errorf("beside it, the other server fails: %w", err)
			if p.Against, err = other.Measure(ctx, n); err != nil {
				return p, nil, fmt.Errorf("%w: %w", errStart, err)
			}
		}
	}
	if failed == nil && !candidateFirst {
		p.Candidate, failed = candidate.Measure(ctx, n)
	}
	return p, failed, nil
}

// String is "dali-threads=1: better than the start by 12.3 % (at least 8.1 %)".
func (t Trial) String() string {
	text := fmt.Sprintf("%s: %s", t.Candidate, t.Verdict)
	switch t.Verdict {
	case Better:
		return fmt.Sprintf("%s than %s by %s (at least %s)", text, t.Against, percent(t.Gain), percent(t.Least))
	case NoBetter:
		return fmt.Sprintf("%s than %s (%s in %d pairs)", text, t.Against, percent(t.Gain), len(t.Pairs))
	case Failed:
		return text + ": " + t.Why
	case Unfinished:
	}
	return text
}

func percent(share float64) string {
	const hundred = 100
	return fmt.Sprintf("%.1f %%", hundred*share)
}
