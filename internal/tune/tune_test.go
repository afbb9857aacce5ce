package tune_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/tune"
)

// world is a machine on which servers of some knobs do more or less, as drawn from a seed.
type world struct {
	*rand.Rand
	knobs []tune.Knob
	// effects are the logarithms of what the values of each knob do, by knob and value.
	effects []map[string]float64
	noise   float64 // standard deviation of a measurement's logarithm
	drift   float64 // amplitude of what the whole machine loses and wins, over minutes
	bursts  float64 // how often somebody else's work halves a measurement
	period  time.Duration

	now     time.Time
	open    int // servers
	dies    map[string]bool
	stopped func() // called when so many measurements were made
	after   int
}

func newWorld(seed uint64, noise, drift float64) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 1)), noise: noise, drift: drift, dies: map[string]bool{},
		now: time.Unix(0, 0), period: time.Duration(60+seed%240) * time.Second,
	}
	for i := range 4 {
		k := tune.Knob{Key: fmt.Sprintf("knob-%d", i), Values: []string{"1", "2", "4", "8"}, Start: w.IntN(4)}
		effects := map[string]float64{}
		for j, v := range k.Values {
			if j != k.Start {
				effects[v] = -0.02 * w.ExpFloat64() // most are a little worse
			}
		}
		w.knobs, w.effects = append(w.knobs, k), append(w.effects, effects)
	}
	return w
}

// truth is the logarithm of what a setting does, as a share of the start.
func (w *world) truth(s tune.Setting) float64 {
	sum := 0.0
	for i, k := range w.knobs {
		if v, ok := s[k.Key]; ok {
			sum += w.effects[i][v]
		}
	}
	return sum
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

const (
	starts = 4 * time.Second
	window = 2 * time.Second
	budget = 10 * time.Minute
)

func (w *world) search() tune.Search {
	return tune.Search{
		Knobs: w.knobs, Objective: tune.Throughput, Budget: budget, Opening: starts, Now: func() time.Time { return w.now },
		Open: func(ctx context.Context, s tune.Setting) (tune.Server, error) {
			w.pass(starts)
			if w.dies[s.Assignments()] {
				return nil, errors.New("out of memory")
			}
			w.open++
			return &server{w, s}, context.Cause(ctx)
		},
	}
}

// run searches and stops the first server.
func (w *world) run(ctx context.Context, t *testing.T, s tune.Search) tune.Outcome {
	t.Helper()
	first := &server{w, nil}
	got, err := s.Run(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if w.open != 0 {
		t.Fatalf("%d servers are left", w.open)
	}
	return got
}

type server struct {
	world   *world
	setting tune.Setting
}

func (s *server) Measure(context.Context, int) (tune.Figures, error) {
	w := s.world
	w.pass(window)
	if w.after--; w.after == 0 {
		w.stopped()
	}
	at := 2 * math.Pi * w.now.Sub(time.Unix(0, 0)).Seconds() / w.period.Seconds()
	rate := 100 * math.Exp(w.truth(s.setting)+w.noise*w.NormFloat64()) * (1 + w.drift*math.Sin(at))
	if w.Float64() < w.bursts {
		rate /= 2
	}
	return tune.Figures{PicturesPerSecond: rate, P50Seconds: 1 / rate, P99Seconds: 2 / rate}, nil
}

func (s *server) Stop(context.Context) error {
	if s.setting != nil {
		s.world.open--
	}
	return nil
}

// Whatever the noise, the drift and the work of others, what comes of a search is not worse than what there was.
func TestNeverWorse(t *testing.T) {
	t.Parallel()
	const worlds = 400
	for seed := range uint64(worlds) {
		for _, objective := range tune.Objectives() {
			w := newWorld(seed, 0.01+0.09*float64(seed%10)/9, 0.1)
			w.bursts = 0.02 * float64(seed%3)
			s := w.search()
			s.Objective = objective
			got := w.run(t.Context(), t, s)
			if w.truth(got.Best) < 0 {
				t.Errorf("seed %d: %s is worse by %.1f %%", seed, got.Best, -100*math.Expm1(w.truth(got.Best)))
			}
		}
	}
}

// Noise is not taken for gain: where all settings are alike, nothing is found.
func TestNoiseIsNoGain(t *testing.T) {
	t.Parallel()
	const worlds = 3000
	trials, taken, found := 0, 0, 0
	for seed := range uint64(worlds) {
		w := newWorld(seed, 0.08, 0.1)
		w.effects = make([]map[string]float64, len(w.knobs))
		got := w.run(t.Context(), t, w.search())
		trials += len(got.Trials)
		for _, trial := range got.Trials {
			if trial.Verdict == tune.Better {
				taken++
			}
		}
		if len(got.Best) > 0 {
			found++
		}
	}
	t.Logf("of %d trials %d took noise for gain, and of %d searches %d", trials, taken, worlds, found)
	if 100*taken > trials || 200*found > worlds {
		t.Errorf("of %d trials %d took noise for gain, and of %d searches %d", trials, taken, worlds, found)
	}
}

// A gain of a tenth is found, also where two knobs have to be turned, and one of them twice; on a noisy machine, one of
// a third mostly.
func TestFindsGain(t *testing.T) {
	t.Parallel()
	const worlds = 200
	for _, c := range []struct {
		noise, gain float64
		least       int // of the worlds
	}{{0.025, 0.1, 196}, {0.1, 0.1, 100}, {0.2, 0.3, 100}} {
		found := 0
		for seed := range uint64(worlds) {
			w := newWorld(seed, c.noise, 0.1)
			w.knobs[1].Start, w.knobs[2].Start = 1, 3
			w.effects[1] = map[string]float64{"1": -2 * c.gain, "4": c.gain, "8": 2 * c.gain}
			w.effects[2] = map[string]float64{"1": -3 * c.gain, "2": -2 * c.gain, "4": c.gain}
			got := w.run(t.Context(), t, w.search())
			if w.truth(got.Best) >= c.gain && got.Proof != nil && got.Proof.Verdict == tune.Better {
				found++
			}
		}
		t.Logf("noise %v: gains of %v found in %d of %d worlds", c.noise, c.gain, found, worlds)
		if found < c.least {
			t.Errorf("noise %v: gains of %v found in %d of %d worlds, want %d", c.noise, c.gain, found, worlds, c.least)
		}
	}
}

// The budget is kept, but for the start of a server that takes longer than those before.
func TestBudget(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		w := newWorld(seed, 0.03, 0.1)
		w.effects[0] = map[string]float64{"1": 0.1, "2": 0.2, "4": 0.3, "8": 0.4}
		s := w.search()
		s.Budget = time.Duration(20+10*(seed%30)) * time.Second
		w.run(t.Context(), t, s)
		if took := w.now.Sub(time.Unix(0, 0)); took > s.Budget+starts+2*window {
			t.Errorf("seed %d: %s of %s", seed, took, s.Budget)
		}
	}
}

// An interrupted search returns what was proven until then, whenever that is.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	seen := map[bool]int{}
	for after := range 150 {
		w := newWorld(7, 0.01, 0.1)
		w.knobs[0].Start = 0
		w.effects[0] = map[string]float64{"2": 0.2, "4": 0.4, "8": 0.2}
		ctx, cancel := context.WithCancel(t.Context())
		w.stopped, w.after = cancel, after+1
		got := w.run(ctx, t, w.search())
		cancel()
		if w.truth(got.Best) < 0 || (len(got.Best) > 0) != (got.Proof != nil) {
			t.Errorf("after %d measurements: %s", after, got.Best)
		}
		if got.Proof != nil && len(got.Proof.Against) > 0 {
			t.Errorf("after %d measurements: not proven against the start, but %s", after, got.Proof.Against)
		}
		if got.Interrupted {
			seen[len(got.Best) > 0]++
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("interrupted with and without a gain: %v", seen)
	}
}

// A candidate whose server does not start, or does not answer everything, is left out and told of; a start that fails
// ends the search.
func TestFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 0.01, 0)
	w.knobs = []tune.Knob{{Key: "a", Values: []string{"1", "2"}, Start: 0}, {Key: "b", Values: []string{"", "x"}, Start: 0}}
	w.effects = []map[string]float64{{"2": 0.2}, {"x": 0.2}}
	w.dies["a=2"] = true
	got := w.run(t.Context(), t, w.search())
	if diff := cmp.Diff(tune.Setting{"a": "2", "b": "x"}, got.Best); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Beside another setting of b, it starts.
	if first := got.Trials[0]; first.Verdict != tune.Failed || first.String() != "a=2: failed: out of memory" {
		t.Errorf("%+v", first)
	}

	broken := errors.New("broken")
	s := w.search()
	open := s.Open
	s.Open = func(ctx context.Context, setting tune.Setting) (tune.Server, error) {
		inner, err := open(ctx, setting)
		return &fails{inner, broken}, err
	}
	got, err := s.Run(t.Context(), &server{w, nil})
	if err != nil || len(got.Best) != 0 || w.open != 0 {
		t.Errorf("candidates fail: %v, %v, %d left", got.Best, err, w.open)
	}
	if _, err := w.search().Run(t.Context(), &fails{&server{w, nil}, broken}); !errors.Is(err, broken) || w.open != 0 {
		t.Errorf("the start fails: %v, %d left", err, w.open)
	}
}

type fails struct {
	tune.Server
	err error
}

func (f *fails) Measure(context.Context, int) (tune.Figures, error) { return tune.Figures{}, f.err }
