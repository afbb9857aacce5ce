package trial_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trial"
	"github.com/dalirun/dalirun/internal/tune"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// A host starts servers of targets in memory. It is for a bubble of testing/synctest.
type host struct {
	t        *testing.T
	takes    func(target.Serving) time.Duration // a picture
	fails    func(target.Serving) error         // the verification of a server; nil where none does
	servers  map[string]*world
	standing int
	most     int
	told     []string
}

func (h *host) Stand(ctx context.Context, of target.Target, then func(context.Context, string) error) error {
	id := h.start(of.Serving)
	h.standing++
	defer func() { h.standing-- }()
	h.most = max(h.most, h.standing)
	if h.fails != nil {
		if err := h.fails(of.Serving); err != nil {
			return err
		}
	}
	return errors.Join(then(ctx, id), context.Cause(ctx))
}

func (h *host) start(s target.Serving) string {
	id := fmt.Sprint("server", len(h.servers))
	w := &world{server: tritontest.NewInMemory(h.t, tritontest.Staged(model, tritontest.Stage{
		Name: "net", Instances: 1, MaxBatch: 1, Time: func(int) time.Duration { return h.takes(s) },
	})...)}
	w.server.MustLoad(model)
	h.servers[id] = w
	return id
}

func (h *host) Open(_ context.Context, id string) (container.Container, error) {
	w, found := h.servers[id]
	if !found {
		return nil, container.ErrNotFound
	}
	return opened{world: w}, nil
}

// search searches on this host from the usual settings of two cores on.
func (h *host) search(ctx context.Context, objective tune.Objective, budget time.Duration) (*tune.Result, error) {
	h.servers = map[string]*world{}
	of := target.Target{Lane: target.CPU, MaxBatch: 8, Picture: target.Picture{Data: []byte("sample")}}
	asked := target.Serving{QueueDelay: time.Millisecond}
	of.Serving = target.DecideServing(asked, of, 2)
	return trial.Tuning{
		Target: of, Asked: asked, CPUs: 2, Load: tune.NewLoad(objective, model, target.CPU, budget), Budget: budget,
		Stand: h.Stand, Open: h.Open, Progress: func(text string, _ bool) { h.told = append(h.told, text) },
	}.Search(ctx, h.start(of.Serving), time.Second)
}

// fasterWith is faster if a classifier has two instances.
func fasterWith(s target.Serving) time.Duration {
	if s.ClassifierInstances == 2 {
		return 5 * time.Millisecond
	}
	return 10 * time.Millisecond
}

func same(target.Serving) time.Duration { return 10 * time.Millisecond }

// Settings that do more are found, proven, and written with what was asked for. Each server that was started has ended.
func TestTuningFinds(t *testing.T) {
	t.Parallel()
	for _, objective := range tune.Objectives() {
		synctest.Test(t, func(t *testing.T) {
			h := &host{t: t, takes: fasterWith}
			r, err := h.search(t.Context(), objective, 20*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"queue-delay": "1ms", "classifier-instances": "2"}
			if diff := cmp.Diff(want, r.Serving); diff != "" || r.Lane != "cpu" || (r.Load.Rate > 0) != (objective == tune.Latency) {
				t.Errorf("%s: %+v (-want +got):\n%s", objective, r, diff)
			}
			if h.standing != 0 || h.most == 0 || h.most > 2 || len(h.told) == 0 {
				t.Errorf("%s: %d servers are left, %d stood at a time, told was %q", objective, h.standing, h.most, h.told)
			}
		})
	}
}

// Where nothing is better, what was asked for stays.
func TestTuningKeepsTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, takes: same}
		r, err := h.search(t.Context(), tune.Throughput, 5*time.Minute)
		if err != nil || len(r.Best) > 0 || len(r.Trials) == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if diff := cmp.Diff(map[string]string{"queue-delay": "1ms"}, r.Serving); diff != "" || h.standing != 0 {
			t.Errorf("%d servers are left (-want +got):\n%s", h.standing, diff)
		}
	})
}

// A candidate that is not verified is no better, and the search goes on.
func TestTuningRefusesCandidates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, takes: fasterWith, fails: func(s target.Serving) error {
			if s.ClassifierInstances == 2 {
				return errors.New("the answers are not PyTorch's")
			}
			return nil
		}}
		r, err := h.search(t.Context(), tune.Throughput, 5*time.Minute)
		if err != nil || len(r.Best) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		told := false
		for _, of := range r.Trials {
			told = told || of.Candidate["classifier-instances"] == "2" && of.Why == "the answers are not PyTorch's"
		}
		if !told || len(r.Trials) < 2 || h.standing != 0 {
			t.Errorf("%+v; %d servers are left", r.Trials, h.standing)
		}
		if line := "classifier-instances=2: failed: the answers are not PyTorch's"; !slices.Contains(h.told, line) {
			t.Errorf("told was %q, without %q", h.told, line)
		}
	})
}

// A search that is stopped has what was proven until then, and ends the servers that it started.
func TestTuningStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := errors.New("stopped by Ctrl-C")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 15*time.Second, stopped)
		defer cancel()
		h := &host{t: t, takes: same}
		r, err := h.search(ctx, tune.Throughput, time.Hour)
		if !errors.Is(err, stopped) || r == nil || h.standing != 0 || h.most != 1 {
			t.Errorf("%+v, %v; %d servers are left, %d stood at a time", r, err, h.standing, h.most)
		}

		ctx, cancel = context.WithTimeoutCause(t.Context(), 6*time.Second, stopped) // before the rate is known
		defer cancel()
		if r, err := h.search(ctx, tune.Latency, time.Hour); !errors.Is(err, stopped) || r != nil {
			t.Errorf("before the search: %+v, %v", r, err)
		}
	})
}

// Without the server of the start, and with one that does not answer, there is no search.
func TestTuningWithoutStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, takes: same}
		x := trial.Tuning{Load: tune.NewLoad(tune.Throughput, "another", target.CPU, time.Minute), Stand: h.Stand, Open: h.Open}
		if r, err := x.Search(t.Context(), "gone", time.Second); !errors.Is(err, container.ErrNotFound) || r != nil {
			t.Errorf("%+v, %v", r, err)
		}
		h.servers = map[string]*world{}
		if r, err := x.Search(t.Context(), h.start(target.Serving{}), time.Second); err == nil || r != nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
