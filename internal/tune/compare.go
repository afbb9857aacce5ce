package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
)

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

// errStart is of a start that does not answer everything any more, which no candidate can be compared with.
var errStart = errors.New("the best server so far does not answer everything any more")

// compare measures a candidate and another server in turn, until they can be told apart or the time is over. It is an
// error if the other one does not answer.
func (x *search) compare(
	ctx context.Context, candidate Server, setting Setting, other Server, against Setting,
) (Trial, error) {
	t := Trial{Candidate: setting, Against: against, Pairs: []Pair{}}
	var ratios []float64
	for t.Verdict == "" {
		x.Progress(fmt.Sprintf("%s: pair %d", setting, len(ratios)+1), false)
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
