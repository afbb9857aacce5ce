package bench

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
)

// A histogram has latencies from 1 µs to an hour, to three digits. A latency outside is taken for the nearest inside.
type histogram struct {
	of *hdrhistogram.Histogram
}

const longest = time.Hour

func newHistogram() histogram {
	const digits = 3
	return histogram{hdrhistogram.New(1, longest.Microseconds(), digits)}
}

func (h histogram) record(d time.Duration) {
	d = min(max(d, time.Microsecond), longest)
	_ = h.of.RecordValue(d.Microseconds()) // it is inside
}

// latency is what is read from a histogram; bounds of its values are lower bounds.
func (h histogram) latency(bounds uint64) Latency {
	count := h.of.TotalCount()
	if count == 0 {
		return Latency{}
	}
	at := func(percentile float64) float64 { return inSeconds(float64(h.of.ValueAtPercentile(percentile))) }
	return Latency{
		Count: uint64(count), Bounds: bounds, MeanSeconds: inSeconds(h.of.Mean()), //nolint:gosec // a count is not negative
		P50Seconds: at(50), P90Seconds: at(90), P95Seconds: at(95), P99Seconds: at(99),
		MaxSeconds: inSeconds(float64(h.of.Max())),
	}
}

func inSeconds(microseconds float64) float64 { return microseconds / 1e6 }

// A tally counts the requests of one run.
type tally struct {
	mu        sync.Mutex
	latencies histogram
	delays    histogram
	// due is when each request that is in flight was due, by its number.
	due map[int]time.Time
	// closed says that nothing is waited for any more.
	closed bool

	sent, answered, failed, abandoned, skipped uint64

	bounds   uint64
	inWindow uint64    // answered before windowEnd
	end      time.Time // of the window
	errors   map[string]*Failure
}

func newTally(windowEnd time.Time) *tally {
	return &tally{
		latencies: newHistogram(), delays: newHistogram(), due: make(map[int]time.Time), end: windowEnd,
		errors: make(map[string]*Failure),
	}
}

// begin counts a request that was due at a time and is sent now, if fewer than so many are in flight; else it is
// skipped.
func (t *tally) begin(n int, due, now time.Time, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.due) >= most {
		t.skipped++
		return false
	}
	t.sent++
	t.due[n] = due
	t.delays.record(now.Sub(due))
	return true
}

// finish counts how a request ended; ended says that the whole run was told to.
func (t *tally) finish(n int, now time.Time, err error, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	due, ok := t.due[n]
	if !ok || t.closed {
		return // it was given up already
	}
	delete(t.due, n)
	late := errors.Is(err, context.DeadlineExceeded)
	switch {
	case err == nil:
		t.answered++
		t.latencies.record(now.Sub(due))
		if !now.After(t.end) {
			t.inWindow++
		}
	case ended && (errors.Is(err, context.Canceled) || late):
		t.abandoned++
	default:
		if late {
			t.giveUp(due, now)
		}
		t.fail(class(err), err.Error())
	}
}

// giveUp records the age of a request that is not waited for any more.
func (t *tally) giveUp(due, now time.Time) {
	t.latencies.record(now.Sub(due))
	t.bounds++
}

func (t *tally) fail(class, message string) {
	t.failed++
	if t.errors[class] == nil {
		t.errors[class] = &Failure{Class: class, Example: message}
	}
	t.errors[class].Count++
}

// class is the name of the gRPC code that an error has.
func class(err error) string {
	if e, ok := errors.AsType[*triton.Error](err); ok {
		return e.Code.String()
	}
	if s := status.FromContextError(err); s.Code() != codes.Unknown {
		return s.Code().String()
	}
	return status.Code(err).String()
}

// close gives up what is still in flight: requests that neither were answered nor ended with their deadline.
func (t *tally) close(now time.Time, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, due := range t.due {
		if ended {
			t.abandoned++
			continue
		}
		t.giveUp(due, now)
		t.fail(codes.DeadlineExceeded.String(), "no answer, and no end of the request with its deadline")
	}
}

// fill writes the counts into a measurement.
func (t *tally) fill(m *Measurement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m.Requests, m.Answered, m.Failed, m.Abandoned, m.Skipped = t.sent, t.answered, t.failed, t.abandoned, t.skipped
	m.Latency = t.latencies.latency(t.bounds)
	m.Errors = make([]Failure, 0, len(t.errors))
	for _, e := range t.errors {
		m.Errors = append(m.Errors, *e)
	}
	slices.SortFunc(m.Errors, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class, b.Class))
	})
	if m.WindowSeconds > 0 {
		m.AchievedRate = float64(t.inWindow) / m.WindowSeconds
		m.PicturesPerSecond = m.AchievedRate * float64(m.Load.Batch)
	}
	if m.Load.Rate > 0 {
		m.Client.SendDelay = t.delays.latency(0)
		if m.WindowSeconds > 0 {
			m.AskedRate = float64(t.sent+t.skipped) / m.WindowSeconds
		}
	}
}

// sentSoFar is how many requests were sent.
func (t *tally) sentSoFar() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}
