// Package bench loads a Triton server, measures what its clients see, and says what limits it.
//
// A [Bench] runs a [Load] and returns a [Measurement]: latencies from a histogram, errors by class, the rate that was
// achieved, the client's own CPU, and the server's own account of the time that requests spent in each model.
// [FindLimit] names the stage that limits from these figures alone. [Baseline] keeps figures for a later run, and
// [Compare] says which of them became worse.
//
// # What a latency is
//
// In a closed loop each of so many clients sends its next request when the last one was answered. A server that stalls
// is asked less, so a stall shows in as many latencies as there are clients. In an open loop requests are due at times
// that were drawn in advance, whatever the server does, and a latency counts from when its request was due: what a
// stall kept waiting shows whole.
//
// A latency is that of a request that was answered with success. A request that was given up has its age recorded too,
// as the least that its latency can be, and is an error as well. One that failed at once has none: a server that
// refuses all it is asked would look fast.
//
// Durations are in seconds, rates in requests or pictures a second, and shares from 0 to 1; what is plain data here is
// the same in JSON.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/printable"
)

// A Load is how a server is asked: in a closed loop by Concurrency, or in an open one by Rate.
type Load struct {
	Model string `json:"model"`
	// Concurrency is how many requests a closed loop has in flight; 0 in an open one.
	Concurrency int `json:"concurrency,omitempty" jsonschema:"requests that a closed loop has in flight"`
	// Rate is how many requests are due in a second of an open loop; 0 in a closed one.
	Rate float64 `json:"rate,omitempty" jsonschema:"requests that are due in a second of an open loop"`
	// MaxInFlight is how many requests an open loop has in flight at most. One that is due while there are as many is
	// skipped, and counted.
	MaxInFlight int `json:"max_in_flight,omitempty" jsonschema:"requests that an open loop has in flight at most"`
	// Seed decides when the requests of an open loop are due: the same one is the same times.
	Seed uint64 `json:"seed,omitempty" jsonschema:"decides when the requests of an open loop are due"`
	// Batch is how many pictures a request has, 1 or more.
	Batch int `json:"batch" jsonschema:"pictures in a request"`
	// Connections is how many connections the requests are spread over. It is what the [Requester] was made with, and
	// for the record alone.
	Connections int `json:"connections" jsonschema:"connections that requests are spread over"`
	// DurationSeconds is how long requests are sent.
	DurationSeconds float64 `json:"duration_seconds"`
	// TimeoutSeconds is how long a request is waited for after it was sent.
	TimeoutSeconds float64 `json:"timeout_seconds"`
	Warmup         Warmup  `json:"warmup"`
}

// A Warmup is what is sent before anything is measured. The first batch that an instance executes decides how its
// memory is laid out, and how much of its work a hardware decoder takes, for as long as it is loaded: it should be
// full.
type Warmup struct {
	// Requests is how many are sent; 0 warms nothing up.
	Requests    int `json:"requests"`
	Batch       int `json:"batch"`       // pictures in each
	Concurrency int `json:"concurrency"` // in flight
}

// The most that a load can ask for. They are far above what one process can do, and keep a slip of the finger from
// taking all memory.
const (
	maxConcurrency = 1 << 16
	maxArrivals    = 1 << 26
	maxDuration    = 7 * 24 * time.Hour
)

// Check says what is wrong with a load, in words of its fields.
func (l Load) Check() error {
	switch {
	case l.Model == "":
		return errors.New("a load needs the name of a model")
	case l.Concurrency != 0 && l.Rate != 0:
		return errors.New("a load has a concurrency (closed loop) or a rate (open loop), not both")
	case l.Concurrency < 0 || l.Concurrency > maxConcurrency:
		return fmt.Errorf("concurrency %d is not from 1 to %d", l.Concurrency, maxConcurrency)
	case l.Concurrency == 0 && (!(l.Rate > 0) || l.Rate > maxArrivals): // a NaN is not above 0
		return fmt.Errorf("rate %v is not above 0 and at most %d requests a second", l.Rate, maxArrivals)
	case l.Rate != 0 && (l.MaxInFlight < 1 || l.MaxInFlight > maxConcurrency):
		return fmt.Errorf("%d requests in flight at most is not from 1 to %d", l.MaxInFlight, maxConcurrency)
	case l.Batch < 1:
		return fmt.Errorf("a batch of %d pictures is not 1 or more", l.Batch)
	case !validSeconds(l.DurationSeconds):
		return fmt.Errorf("a duration of %v s is not above 0 and at most %v", l.DurationSeconds, maxDuration)
	case !validSeconds(l.TimeoutSeconds):
		return fmt.Errorf("a timeout of %v s is not above 0 and at most %v", l.TimeoutSeconds, maxDuration)
	case l.Rate*l.DurationSeconds > maxArrivals:
		return fmt.Errorf("%.0f requests are more than the %d that one run schedules", l.Rate*l.DurationSeconds, maxArrivals)
	case l.Warmup.Requests < 0, l.Warmup.Requests > 0 && (l.Warmup.Batch < 1 || l.Warmup.Concurrency < 1):
		return fmt.Errorf("a warm-up of %d requests of %d pictures, %d at a time, is none", l.Warmup.Requests,
			l.Warmup.Batch, l.Warmup.Concurrency)
	}
	return nil
}

func validSeconds(s float64) bool { return s > 0 && s <= maxDuration.Seconds() }

// seconds is the duration of so many seconds.
func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// String is "closed loop, 16 requests at a time, batch 1, 4 connections".
func (l Load) String() string {
	what := "closed loop, " + printable.Count(l.Concurrency, "request") + " at a time"
	if l.Rate > 0 {
		what = fmt.Sprintf("open loop, %s requests/s, at most %d in flight", l.rate(), l.MaxInFlight)
	}
	return fmt.Sprintf("%s, batch %d, %s", what, l.Batch, printable.Count(l.Connections, "connection"))
}

func (l Load) rate() string { return strconv.FormatFloat(l.Rate, 'f', -1, 64) }

// A Requester sends requests to the server that is measured, from many goroutines at a time.
type Requester interface {
	// Request sends the n-th request, with so many pictures, and returns when it was answered. It returns soon after ctx
	// ends: with a deadline, for a request that is given up.
	Request(ctx context.Context, n, batch int) error
}

// A Server gives its account of what its models did since they were loaded.
type Server interface {
	// Models are those that take part in a request, the one that is asked first.
	Models() []Model
	Snapshot(ctx context.Context) (Snapshot, error)
}

// A Measurement is what was measured of one load.
type Measurement struct {
	Load    Load      `json:"load"`
	Started time.Time `json:"started"` // when the first request was due, after the warm-up
	// WindowSeconds is how long requests were sent: the duration of the load, or less if it was interrupted.
	WindowSeconds float64 `json:"window_seconds" jsonschema:"how long requests were sent"`
	// Interrupted says that the run was ended early. What is here is what was measured until then.
	Interrupted bool `json:"interrupted"`
	// WarmupFailed says why the warm-up ended before all of it was answered; empty if it did not. The server was not
	// warm, and may have been busy with what was left of it.
	WarmupFailed string `json:"warmup_failed,omitempty" jsonschema:"why the warm-up ended before all of it was answered"`

	// Requests is how many were sent: the sum of Answered, Failed and Abandoned.
	Requests uint64 `json:"requests" jsonschema:"sent: the sum of answered, failed and abandoned"`
	Answered uint64 `json:"answered"`
	Failed   uint64 `json:"failed"`
	// Abandoned are those that were in flight when the run was interrupted.
	Abandoned uint64 `json:"abandoned" jsonschema:"in flight when the run was interrupted"`
	// Skipped are those of an open loop that were due and not sent, since MaxInFlight were in flight.
	Skipped uint64    `json:"skipped" jsonschema:"due in an open loop and not sent, as too many were in flight"`
	Errors  []Failure `json:"errors" jsonschema:"failed requests by class, the most frequent first"`

	// AskedRate is requests a second: those that were due in an open loop; 0 in a closed one.
	AskedRate float64 `json:"asked_rate,omitempty" jsonschema:"requests that were due in a second of an open loop"`
	// AchievedRate is requests a second that were answered while requests were sent.
	AchievedRate      float64 `json:"achieved_rate" jsonschema:"requests a second that were answered in the window"`
	PicturesPerSecond float64 `json:"pictures_per_second"`

	Latency Latency `json:"latency"`
	Client  Client  `json:"client"`
	// Models are the server's account, the model that was asked first. ModelsMissing says why there is none.
	Models        []Split `json:"models" jsonschema:"the server's own account of each model"`
	ModelsMissing string  `json:"models_missing,omitempty" jsonschema:"why the server's account is not here"`
	Limit         Limit   `json:"limit"`
}

// A Failure is a class of failed requests.
type Failure struct {
	// Class is the name of a gRPC code, such as Unavailable or DeadlineExceeded, and Unknown for what has none.
	Class   string `json:"class" jsonschema:"the name of a gRPC code"`
	Count   uint64 `json:"count"`
	Example string `json:"example" jsonschema:"the message of the first"` // message of the first
}

// Latency are percentiles of the latencies of so many requests, to within 0.1 %. All are 0 if there are none.
type Latency struct {
	Count uint64 `json:"count"`
	// Bounds is how many of Count were given up: their latency is more than what is counted.
	Bounds      uint64  `json:"bounds" jsonschema:"of count, those given up: their latency is at least what is counted"`
	MeanSeconds float64 `json:"mean_seconds"`
	P50Seconds  float64 `json:"p50_seconds"`
	P90Seconds  float64 `json:"p90_seconds"`
	P95Seconds  float64 `json:"p95_seconds"`
	P99Seconds  float64 `json:"p99_seconds"`
	MaxSeconds  float64 `json:"max_seconds"`
}

// Client is what the client itself took.
type Client struct {
	// CPUSeconds is the CPU time that this process took while requests were sent.
	CPUSeconds           float64 `json:"cpu_seconds"`
	CPUPerRequestSeconds float64 `json:"cpu_per_request_seconds"`
	// Cores is how many cores the process may use, and Share what it used of them, 0 to 1.
	Cores int     `json:"cores" jsonschema:"cores that the client may use"`
	Share float64 `json:"share" jsonschema:"of its cores, what the client used: 0 to 1"`
	// SendDelay is how much later than they were due the requests of an open loop were sent. It is part of their
	// latencies.
	SendDelay Latency `json:"send_delay" jsonschema:"how much later than due requests of an open loop were sent"`
}
