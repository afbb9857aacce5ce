package bench_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/triton"
)

// A service answers a request, as time in a synctest bubble allows.
type service func(ctx context.Context, n, batch int) error

func (s service) Request(ctx context.Context, n, batch int) error { return s(ctx, n, batch) }

// taking is a service that takes so long.
func taking(d time.Duration) service {
	return func(ctx context.Context, _, _ int) error { return sleep(ctx, d) }
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frozen is a service that takes 5 ms and answers nothing between two times.
func frozen(from, until time.Duration) service {
	start := time.Now()
	return func(ctx context.Context, _, _ int) error {
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
		if age := time.Since(start); age >= from && age < until {
			return sleep(ctx, until-age)
		}
		return nil
	}
}

func closedLoad(concurrency int, duration time.Duration) bench.Load {
	return bench.Load{
		Model: "ensemble", Concurrency: concurrency, Batch: 1, Connections: 1, DurationSeconds: duration.Seconds(),
		TimeoutSeconds: 10,
	}
}

func openLoad(rate float64, duration time.Duration) bench.Load {
	return bench.Load{
		Model: "ensemble", Rate: rate, MaxInFlight: 1000, Seed: 1, Batch: 1, Connections: 1,
		DurationSeconds: duration.Seconds(), TimeoutSeconds: 10,
	}
}

func measure(ctx context.Context, t *testing.T, b bench.Bench, load bench.Load) bench.Measurement {
	t.Helper()
	m, err := b.Run(ctx, load)
	if err != nil {
		t.Fatal(err)
	}
	if m.Requests != m.Answered+m.Failed+m.Abandoned {
		t.Errorf("%d requests: %d answered, %d failed, %d abandoned", m.Requests, m.Answered, m.Failed, m.Abandoned)
	}
	return m
}

func about(got, want, within float64) bool { return math.Abs(got-want) <= within }

func TestClosedLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := closedLoad(4, time.Second)
		load.Batch = 8
		m := measure(t.Context(), t, bench.Bench{Requester: taking(10 * time.Millisecond)}, load)
		if m.Answered != 400 || m.AchievedRate != 400 || m.PicturesPerSecond != 3200 || m.AskedRate != 0 || m.Interrupted {
			t.Errorf("%d answered, %v/s, %v pictures/s", m.Answered, m.AchievedRate, m.PicturesPerSecond)
		}
		l := m.Latency
		for name, got := range map[string]float64{"mean": l.MeanSeconds, "p50": l.P50Seconds, "p99": l.P99Seconds, "max": l.MaxSeconds} {
			if !about(got, 0.010, 0.00002) {
				t.Errorf("%s %v s; want 0.010", name, got)
			}
		}
		if l.Count != 400 || l.Bounds != 0 || m.Client.Cores < 1 || m.WindowSeconds != 1 {
			t.Errorf("latencies %+v, client %+v", l, m.Client)
		}
	})
}

// What a server that stands still for 3 s kept waiting shows: 20 requests a second go on being due.
func TestFreeze(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := measure(t.Context(), t, bench.Bench{Requester: frozen(4*time.Second, 7*time.Second)}, openLoad(20, 10*time.Second))
		if m.Answered != 200 || m.Failed != 0 || m.Latency.P99Seconds < 2.5 || m.Latency.P50Seconds > 0.1 {
			t.Errorf("%d answered, %d failed, latencies %+v", m.Answered, m.Failed, m.Latency)
		}
		if m.AskedRate != 20 || !about(m.AchievedRate, 20, 0.2) {
			t.Errorf("asked %v/s, achieved %v/s", m.AskedRate, m.AchievedRate)
		}
	})
}

// Requests that are never answered are errors, and their age is the least that their latency can be.
func TestNeverAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := openLoad(20, 10*time.Second)
		load.TimeoutSeconds = 4
		start := time.Now()
		m := measure(t.Context(), t, bench.Bench{Requester: frozen(7*time.Second, time.Hour)}, load)
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		if m.Failed < 30 || m.Latency.Bounds != m.Failed || m.Latency.Count != 200 || m.Latency.P99Seconds < 3.9 {
			t.Errorf("%d failed, latencies %+v", m.Failed, m.Latency)
		}
		if len(m.Errors) != 1 || m.Errors[0].Class != "DeadlineExceeded" || m.Errors[0].Count != m.Failed {
			t.Errorf("errors %+v", m.Errors)
		}
		if m.AchievedRate > 16 || m.AskedRate != 20 {
			t.Errorf("asked %v/s, achieved %v/s", m.AskedRate, m.AchievedRate)
		}
	})
}

// A requester that does not look at its context is given up too.
func TestDeafRequester(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := closedLoad(2, time.Second)
		load.TimeoutSeconds = 2
		deaf := service(func(context.Context, int, int) error {
			<-time.After(time.Minute)
			return nil
		})
		m := measure(t.Context(), t, bench.Bench{Requester: deaf}, load)
		if m.Failed != 2 || m.Latency.Bounds != 2 || !about(m.Latency.MaxSeconds, 4, 0.01) {
			t.Errorf("%d failed, latencies %+v", m.Failed, m.Latency)
		}
		<-time.After(time.Minute) // until the bubble's goroutines have ended
	})
}

// A request that is due while too many are in flight is counted, and not sent later.
func TestSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := openLoad(100, 2*time.Second)
		load.MaxInFlight = 5
		var mu sync.Mutex
		inFlight, most := 0, 0
		m := measure(t.Context(), t, bench.Bench{Requester: service(func(ctx context.Context, _, _ int) error {
			mu.Lock()
			inFlight++
			most = max(most, inFlight)
			mu.Unlock()
			defer func() { mu.Lock(); inFlight--; mu.Unlock() }()
			return sleep(ctx, 500*time.Millisecond)
		})}, load)
		if m.Requests+m.Skipped != 200 || m.Skipped < 150 || most != 5 || m.AskedRate != 100 {
			t.Errorf("%d sent, %d skipped, %d in flight, asked %v/s", m.Requests, m.Skipped, most, m.AskedRate)
		}
		if m.Latency.MaxSeconds > 0.501 || m.Latency.Count != m.Requests {
			t.Errorf("latencies %+v: skipped requests have none", m.Latency)
		}
		if m.Limit.Stage != bench.LimitClient {
			t.Errorf("limit %+v", m.Limit)
		}
	})
}

// Errors are counted by class, have no latency, and do not make a closed loop spin.
func TestErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := measure(t.Context(), t, bench.Bench{Requester: service(func(ctx context.Context, n, _ int) error {
			switch {
			case n%4 == 0:
				return errors.New("something else")
			case n%2 == 0:
				return &triton.Error{Code: 14, Message: "connection refused"}
			}
			return sleep(ctx, 10*time.Millisecond)
		})}, closedLoad(4, time.Second))
		want := []bench.Failure{
			{Class: "Unavailable", Count: 100, Example: (&triton.Error{Message: "connection refused"}).Error()},
			{Class: "Unknown", Count: 100, Example: "something else"},
		}
		if diff := cmp.Diff(want, m.Errors); diff != "" {
			t.Error(diff)
		}
		if m.Failed != 200 || m.Answered != 200 || m.Latency.Count != 200 || !about(m.Latency.P50Seconds, 0.010, 0.0001) {
			t.Errorf("%d failed, latencies %+v", m.Failed, m.Latency)
		}
	})
}

// A run that is interrupted returns at once with what was measured.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]bench.Load{
		"closed": closedLoad(3, time.Minute), "open": openLoad(300, time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second+5*time.Millisecond)
				defer cancel()
				start := time.Now()
				m := measure(ctx, t, bench.Bench{Requester: taking(10 * time.Millisecond)}, load)
				if took := time.Since(start); !m.Interrupted || took > 1010*time.Millisecond {
					t.Errorf("interrupted %v after %v", m.Interrupted, took)
				}
				if m.Answered < 200 || m.Abandoned == 0 || m.Failed != 0 || !about(m.AchievedRate, 300, 60) {
					t.Errorf("%d answered, %d abandoned, %d failed, %v/s: %v", m.Answered, m.Abandoned, m.Failed, m.AchievedRate, m.Errors)
				}
			})
		})
	}
}

func TestWarmup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := closedLoad(1, 100*time.Millisecond)
		load.Warmup = bench.Warmup{Requests: 6, Batch: 64, Concurrency: 2}
		var mu sync.Mutex
		batches := map[int]int{}
		b := bench.Bench{Requester: service(func(ctx context.Context, _, batch int) error {
			mu.Lock()
			batches[batch]++
			mu.Unlock()
			return sleep(ctx, time.Duration(batch)*10*time.Millisecond)
		})}
		m := measure(t.Context(), t, b, load)
		if batches[64] != 6 || batches[1] != 10 || m.Answered != 10 || m.Latency.MaxSeconds > 0.011 {
			t.Errorf("batches %v, latencies %+v", batches, m.Latency)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m = measure(ctx, t, b, load)
		if !m.Interrupted || m.Requests != 0 {
			t.Errorf("interrupted %v, %d requests", m.Interrupted, m.Requests)
		}
	})
}

// A warm-up that fails does not keep the load from being measured, unless each of its own requests would meet an error:
// one is tried.
func TestWarmupFails(t *testing.T) {
	t.Parallel()
	var (
		full     = &triton.Error{Code: codes.ResourceExhausted, Message: "the queue is full"}
		refused  = &triton.Error{Code: codes.Unavailable, Message: "connection refused"}
		noModel  = &triton.Error{Code: codes.NotFound, Message: "no model"}
		tooLarge = &triton.Error{Code: codes.InvalidArgument, Message: "batch-size must be <= 32"}
		late     = context.DeadlineExceeded
	)
	account := func(err error) bench.Server { return &lateServer{fails: err} }
	for name, test := range map[string]struct {
		warmup, request error // of requests
		server          bench.Server
		ends            bool
	}{
		"something":                          {errors.New("out of memory"), nil, account(nil), false},
		"busy":                               {full, full, account(nil), false},
		"busy until the warm-up ends":        {full, nil, account(late), false},
		"busy, and late with its account":    {full, full, account(late), false},
		"busy, and nobody asks for more":     {full, full, nil, false},
		"late":                               {late, late, account(nil), false},
		"late, and nobody asks for more":     {late, late, nil, false},
		"late, and its account is an error":  {late, late, account(errors.New("not implemented")), false},
		"it hangs":                           {late, late, account(late), true},
		"gone":                               {refused, refused, account(refused), true},
		"gone, which a request waited for":   {late, late, account(refused), true},
		"back":                               {refused, nil, account(refused), false},
		"no such model":                      {noModel, noModel, account(nil), true},
		"the batch of the warm-up is no one": {tooLarge, nil, account(nil), false},
		"no picture for it":                  {late, tooLarge, account(nil), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				load := closedLoad(1, 100*time.Millisecond)
				load.Warmup = bench.Warmup{Requests: 6, Batch: 64, Concurrency: 2}
				b := bench.Bench{Server: test.server, Requester: service(func(ctx context.Context, _, batch int) error {
					if batch == 64 {
						return test.warmup
					}
					return errors.Join(sleep(ctx, 10*time.Millisecond), test.request)
				})}
				m, err := b.Run(t.Context(), load)
				if test.ends {
					if !errors.Is(err, test.request) || !strings.HasPrefix(err.Error(), "warm up ensemble: ") || m.Requests != 0 {
						t.Errorf("%d requests, error %v", m.Requests, err)
					}
					return
				}
				if err != nil || m.WarmupFailed != test.warmup.Error() || (m.Answered == 10) != (test.request == nil) || m.Requests == 0 {
					t.Errorf("error %v, the warm-up: %q, %d of %d answered", err, m.WarmupFailed, m.Answered, m.Requests)
				}
			})
		})
	}
}

// Who interrupts while a request is tried gets an interrupted measurement, and no error.
func TestInterruptedAfterWarmup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := closedLoad(1, time.Second)
		load.Warmup = bench.Warmup{Requests: 1, Batch: 64, Concurrency: 1}
		b := bench.Bench{Server: &lateServer{fails: context.DeadlineExceeded}, Requester: service(func(ctx context.Context, _, batch int) error {
			if batch == 64 {
				return errors.New("out of memory")
			}
			return sleep(ctx, time.Hour)
		})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if m := measure(ctx, t, b, load); !m.Interrupted || m.WarmupFailed == "" || m.Requests != 0 {
			t.Errorf("%+v", m)
		}
	})
}

func TestRunInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := bench.Bench{Requester: taking(20 * time.Millisecond)}
		loads := []bench.Load{closedLoad(1, time.Second), closedLoad(2, time.Second), closedLoad(3, time.Second)}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		told := 0
		all, err := b.RunInTurn(ctx, loads, func(bench.Measurement) { told++ })
		if err != nil || len(all) != 2 || told != 2 || all[0].Interrupted || !all[1].Interrupted {
			t.Errorf("%d measured, %d told: %v", len(all), told, err)
		}
		loads[1].Batch = 0
		all, err = b.RunInTurn(t.Context(), loads, nil)
		if err == nil || len(all) != 1 {
			t.Errorf("%d measured, error %v", len(all), err)
		}
	})
}

func TestLoadCheck(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*bench.Load){
		"needs the name of a model":    func(l *bench.Load) { l.Model = "" },
		"not both":                     func(l *bench.Load) { l.Rate = 1 },
		"concurrency -1":               func(l *bench.Load) { l.Concurrency = -1 },
		"rate 0":                       func(l *bench.Load) { l.Concurrency = 0 },
		"rate NaN":                     func(l *bench.Load) { l.Concurrency, l.Rate = 0, math.NaN() },
		"rate +Inf":                    func(l *bench.Load) { l.Concurrency, l.Rate = 0, math.Inf(1) },
		"0 requests in flight at most": func(l *bench.Load) { l.Concurrency, l.Rate = 0, 1 },
		"a batch of 0":                 func(l *bench.Load) { l.Batch = 0 },
		"a duration of 0 s":            func(l *bench.Load) { l.DurationSeconds = 0 },
		"a timeout of NaN s":           func(l *bench.Load) { l.TimeoutSeconds = math.NaN() },
		"one run schedules": func(l *bench.Load) {
			l.Concurrency, l.Rate, l.MaxInFlight, l.DurationSeconds = 0, 1e6, 1, 600
		},
		"a warm-up of 1 requests of 0": func(l *bench.Load) { l.Warmup.Requests = 1 },
	} {
		load := closedLoad(1, time.Second)
		change(&load)
		if err := load.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
}

// A server that does not say what it did keeps nobody who interrupts the run waiting.
func TestInterruptedWithoutAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		silent := &account{}
		start := time.Now()
		m := measure(ctx, t, bench.Bench{Requester: taking(10 * time.Millisecond), Server: silent}, closedLoad(3, time.Minute))
		if took := time.Since(start); took > 2100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if !m.Interrupted || m.ModelsMissing != "context canceled" || m.Answered == 0 {
			t.Errorf("interrupted %v, %d answered, account missing: %q", m.Interrupted, m.Answered, m.ModelsMissing)
		}
	})
}

// An account is a server that gives its account once, and is silent from then on.
type account struct{ given bool }

func (*account) Models() []bench.Model { return nil }

func (a *account) Snapshot(ctx context.Context) (bench.Snapshot, error) {
	if !a.given {
		a.given = true
		return bench.Snapshot{Taken: time.Now()}, nil
	}
	<-ctx.Done()
	return bench.Snapshot{}, ctx.Err()
}

// A server counts the last batch of the warm-up some time after it answered it. That is no work of what is measured.
func TestCountsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const late = 80 * time.Millisecond
		server := &lateServer{late: late}
		b := bench.Bench{Server: server, Requester: service(func(ctx context.Context, _, batch int) error {
			defer server.count(batch, 10*time.Millisecond)
			return sleep(ctx, 10*time.Millisecond)
		})}
		load := closedLoad(1, time.Second)
		load.Warmup = bench.Warmup{Requests: 4, Batch: 64, Concurrency: 1}
		m := measure(t.Context(), t, b, load)
		if len(m.Models) != 1 || m.Models[0].AverageBatch != 1 || m.Models[0].Busy > 1 || m.Models[0].Busy < 0.9 {
			t.Errorf("models %+v, missing %q", m.Models, m.ModelsMissing)
		}
		<-time.After(late) // until the bubble's goroutines have ended
	})
}

// A lateServer counts executions some time after they end, or fails to give its account.
type lateServer struct {
	late  time.Duration
	fails error
	mu    sync.Mutex
	has   triton.Statistics
}

func (s *lateServer) count(batch int, took time.Duration) {
	time.AfterFunc(s.late, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.has.Executions++
		s.has.Inferences += uint64(batch)
		s.has.Success = triton.Stat{Count: s.has.Success.Count + 1, Total: s.has.Success.Total + took}
		s.has.Batches = []triton.BatchStatistics{{ComputeInfer: s.has.Success}}
	})
}

func (*lateServer) Models() []bench.Model { return []bench.Model{{Instances: 1}} }

func (s *lateServer) Snapshot(context.Context) (bench.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bench.Snapshot{Taken: time.Now(), Models: []triton.Statistics{s.has}}, s.fails
}
