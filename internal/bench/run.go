package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dalirun/dalirun/triton"
)

// A Bench measures one server.
type Bench struct {
	Requester Requester
	// Server is asked for its account before and after; nil is a server that gives none.
	Server Server
	// CPU returns the CPU time that the client took so far; nil is [ProcessCPU].
	CPU func() (time.Duration, error)
	// Cores is how many cores the client may use; 0 is what the Go runtime uses, which knows the limit of its container.
	Cores int
}

const (
	// snapshotTimeout bounds the wait for the server's account. A server that takes longer has none.
	snapshotTimeout = 5 * time.Second
	// endTimeout bounds the wait for what was told to end: requests whose deadline has passed, and all that is under way
	// when the run is interrupted. Only a requester that does not look at its context takes longer.
	endTimeout = time.Second
	// countedEvery is how often a server is asked whether it has counted the warm-up. It does within a millisecond of its
	// last answer, or more where all cores are busy.
	countedEvery = 20 * time.Millisecond
	countedTries = 50
	// failurePause is how long a client of a closed loop waits after a request that failed. A server that is gone refuses
	// at once, and would be asked a hundred thousand times a second.
	failurePause = 10 * time.Millisecond
)

// RunInTurn runs each load once, one after the other, and calls each with its measurement; each may be nil. It ends
// with the first that is interrupted, which is among those returned, or fails, which is not.
func (b Bench) RunInTurn(ctx context.Context, loads []Load, each func(Measurement)) ([]Measurement, error) {
	var measured []Measurement
	for _, load := range loads {
		m, err := b.Run(ctx, load)
		if err != nil {
			return measured, err
		}
		measured = append(measured, m)
		if each != nil {
			each(m)
		}
		if m.Interrupted {
			break
		}
	}
	return measured, nil
}

// Run warms a server up, loads it and measures. It takes the warm-up, the duration of the load and at most its timeout
// after that; a warm-up that fails adds the time of one request. When ctx ends, it returns what was measured until
// then, marked as interrupted, and no error. An error is a load that is none, a CPU time that cannot be had, or a
// warm-up after which there is nothing to measure: the server is gone, or refuses the load's own request as it is. What
// else fails in the warm-up is in [Measurement.WarmupFailed], and requests that fail later are counted.
func (b Bench) Run(ctx context.Context, load Load) (Measurement, error) {
	m := Measurement{Load: load, Errors: []Failure{}, Models: []Split{}}
	if err := load.Check(); err != nil {
		return m, err
	}
	if b.CPU == nil {
		b.CPU = ProcessCPU
	}
	m.Client.Cores = b.Cores
	if b.Cores < 1 {
		m.Client.Cores = runtime.GOMAXPROCS(0)
	}
	if err := b.warmUp(ctx, load); err != nil {
		m.WarmupFailed = err.Error()
		if err := b.tryOne(ctx, load); err != nil {
			return m, fmt.Errorf("warm up %s: %w", load.Model, err)
		}
	}
	if ctx.Err() != nil {
		m.Interrupted, m.Started = true, time.Now().UTC()
	} else if err := b.measure(ctx, &m); err != nil {
		return m, err
	}
	m.Limit = FindLimit(m)
	return m, nil
}

// warmUp sends the warm-up and waits until all of it is answered, and counted by the server. That ctx ends is no error.
func (b Bench) warmUp(ctx context.Context, load Load) error {
	if load.Warmup.Requests == 0 {
		return nil
	}
	before, noAccount := b.snapshot(ctx)
	if err := b.sendWarmup(ctx, load); err != nil {
		return err
	}
	if noAccount == nil {
		b.awaitCounted(ctx, before, load.Warmup.Requests)
	}
	return nil
}

// tryOne sends one request of a load after its warm-up failed, and returns its error if each of the load would meet it.
// Those of the warm-up tell nothing of that: they are other batches, and more at a time.
func (b Bench) tryOne(ctx context.Context, load Load) error {
	err := b.request(ctx, load, 0, load.Batch)
	isRefused := errors.Is(err, triton.ErrInvalid) || errors.Is(err, triton.ErrNotFound)
	if ctx.Err() == nil && (isRefused || b.isGone(ctx, err)) {
		return err
	}
	return nil
}

// isGone says whether a server that did not answer a request because of err is not there any more. One that is busy
// refuses work too, or is late, but gives its account meanwhile. Of one that nobody can ask for it nothing is known.
func (b Bench) isGone(ctx context.Context, err error) bool {
	isLate := errors.Is(err, context.DeadlineExceeded)
	if b.Server == nil || !isLate && !errors.Is(err, triton.ErrUnavailable) {
		return false
	}
	_, err = b.snapshot(ctx)
	// What refuses work at once and is late with its account is there.
	return errors.Is(err, triton.ErrUnavailable) || isLate && errors.Is(err, context.DeadlineExceeded)
}

// sendWarmup sends the warm-up and waits until all of it is answered. That interrupted ends is no error.
func (b Bench) sendWarmup(interrupted context.Context, load Load) error {
	ctx, cancel := context.WithCancelCause(interrupted)
	defer cancel(nil)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range min(load.Warmup.Concurrency, load.Warmup.Requests) {
		clients.Go(func() {
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= int64(load.Warmup.Requests) {
					return
				}
				if err := b.request(ctx, load, int(n), load.Warmup.Batch); err != nil {
					cancel(err) // the first one ends the others
				}
			}
		})
	}
	clients.Wait()
	if interrupted.Err() != nil {
		return nil
	}
	return context.Cause(ctx) // nil if nothing failed
}

func (b Bench) request(ctx context.Context, load Load, n, batch int) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(load.TimeoutSeconds))
	defer cancel()
	return b.Requester.Request(ctx, n, batch)
}

// measure runs the load and fills m.
func (b Bench) measure(ctx context.Context, m *Measurement) error {
	arrivals := schedule(m.Load) // drawn before the clock starts
	before, noAccount := b.snapshot(ctx)
	used, err := b.CPU()
	if err != nil {
		return fmt.Errorf("read the client's CPU time: %w", err)
	}
	start := time.Now()
	r := run{
		bench: b, load: m.Load, start: start, end: start.Add(seconds(m.Load.DurationSeconds)),
	}
	r.tally = newTally(r.end)
	// Requests have a context of their own, which ends with ctx too: what is in flight then is abandoned.
	requests, cancel := context.WithCancel(ctx)
	defer cancel()
	var clients sync.WaitGroup
	if m.Load.Rate > 0 {
		clients.Go(func() { r.open(requests, arrivals, &clients) })
	} else {
		for i := range m.Load.Concurrency {
			clients.Go(func() { r.closed(requests, i) })
		}
	}
	ended := make(chan struct{})
	go func() {
		clients.Wait()
		close(ended)
	}()

	waitUntil(ctx, r.end)
	window := min(time.Since(start), r.end.Sub(start))
	m.Started, m.Interrupted, m.WindowSeconds = start.UTC(), ctx.Err() != nil, window.Seconds()
	usedNow, err := b.CPU()
	if err != nil {
		return fmt.Errorf("read the client's CPU time: %w", err)
	}
	m.Client.fill(usedNow-used, window, r.tally.sentSoFar())
	b.split(ctx, m, before, noAccount) // while the load still lasts

	r.awaitEnd(ctx, ended)
	m.Interrupted = ctx.Err() != nil
	r.tally.close(time.Now(), m.Interrupted)
	r.tally.fill(m)
	return nil
}

// fill says what the client took for so many requests in a window of time.
func (c *Client) fill(used, window time.Duration, requests uint64) {
	c.CPUSeconds = used.Seconds()
	if window > 0 {
		c.Share = c.CPUSeconds / (window.Seconds() * float64(c.Cores))
	}
	if requests > 0 {
		c.CPUPerRequestSeconds = c.CPUSeconds / float64(requests)
	}
}

// awaitCounted waits until the server has counted so many requests more than before in each model. Triton counts a
// request after it answered it, and a full batch of the warm-up would be taken for work of what is measured. A server
// that does not get that far is not waited for: where a cache answers, models behind it count nothing.
func (b Bench) awaitCounted(ctx context.Context, before Snapshot, requests int) {
	for range countedTries {
		now, err := b.snapshot(ctx)
		if err != nil || ctx.Err() != nil || now.counted(before, b.Server.Models(), requests) {
			return
		}
		waitUntil(ctx, time.Now().Add(countedEvery))
	}
}

// errNoServer is why there is no account of a server that nobody is to ask.
var errNoServer = errors.New("nobody was asked for it")

// snapshot asks the server for its account; the error says why there is none.
func (b Bench) snapshot(ctx context.Context) (Snapshot, error) {
	if b.Server == nil {
		return Snapshot{}, errNoServer
	}
	// An interrupted run is told of with what the server says of it, if it says so soon.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(endTimeout, cancel) })
	defer stop()
	return b.Server.Snapshot(asking)
}

// split asks the server for its account again, and writes what came of it into m. noAccount is why there was none
// before.
func (b Bench) split(ctx context.Context, m *Measurement, before Snapshot, noAccount error) {
	if noAccount != nil {
		m.ModelsMissing = noAccount.Error()
		return
	}
	after, err := b.snapshot(ctx)
	if err != nil {
		m.ModelsMissing = err.Error()
		return
	}
	models, err := SplitOf(b.Server.Models(), before, after)
	if err != nil {
		m.ModelsMissing = err.Error()
		return
	}
	m.Models = models
}

// A run is a load at work.
type run struct {
	bench      Bench
	load       Load
	tally      *tally
	start, end time.Time
}

// awaitEnd waits for the requests that are in flight when the window ends. Each ends with its own deadline; when ctx
// ends, at once.
func (r run) awaitEnd(ctx context.Context, ended <-chan struct{}) {
	late := time.NewTimer(time.Until(r.end.Add(seconds(r.load.TimeoutSeconds) + endTimeout)))
	defer late.Stop()
	select {
	case <-ended:
		return
	case <-late.C:
		return
	case <-ctx.Done():
	}
	late.Reset(endTimeout)
	select {
	case <-ended:
	case <-late.C:
	}
}

// closed is one client of a closed loop.
func (r run) closed(ctx context.Context, client int) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		now := time.Now()
		if !now.Before(r.end) {
			return
		}
		n := i*r.load.Concurrency + client
		r.tally.begin(n, now, now, r.load.Concurrency)
		if r.send(ctx, n) == nil {
			continue
		}
		pause.Reset(failurePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// open sends each request when it is due, whatever became of those before. A request that is late, since this process
// was, is sent at once, and its latency counts from when it was due.
func (r run) open(ctx context.Context, arrivals []time.Duration, requests *sync.WaitGroup) {
	for n, at := range arrivals {
		due := r.start.Add(at)
		waitUntil(ctx, due)
		if ctx.Err() != nil {
			return
		}
		if r.tally.begin(n, due, time.Now(), r.load.MaxInFlight) {
			requests.Go(func() { _ = r.send(ctx, n) }) // it is counted
		}
	}
}

func (r run) send(ctx context.Context, n int) error {
	err := r.bench.request(ctx, r.load, n, r.load.Batch)
	r.tally.finish(n, time.Now(), err, ctx.Err() != nil)
	return err
}

// schedule returns when the requests of an open loop are due, from its start and in order; none for a closed loop. They
// are as many as rate and duration say, at times drawn evenly over the duration: arrivals of independent users, given
// their number. Requests at equal distances would never meet in a server, and hide its queues.
func schedule(l Load) []time.Duration {
	arrivals := make([]time.Duration, int(math.Round(l.Rate*l.DurationSeconds)))
	draw := rand.New(rand.NewPCG(l.Seed, 0)) //nolint:gosec // a load that can be repeated, no secret
	for i := range arrivals {
		arrivals[i] = time.Duration(draw.Float64() * float64(seconds(l.DurationSeconds)))
	}
	slices.Sort(arrivals)
	return arrivals
}

// waitUntil returns at a time, or when ctx ends.
func waitUntil(ctx context.Context, at time.Time) {
	left := time.Until(at)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
