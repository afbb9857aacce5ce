package tune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton"
)

const (
	// gpuClients and cpuClients are how many requests a server has at a time that does all it can: on an H100, 512
	// single pictures were answered fastest, and on two cores 8 keep both models busy.
	gpuClients, cpuClients = 512, 8
	// connections carry them: one of gRPC can be the limit itself.
	connections = 4
	// timeout is how long an answer may take: on two busy cores 16 pictures took seconds.
	timeout = 30 * time.Second
	// moderate is the part of what a server can do at which latencies are measured.
	moderate = 0.5
	// windows is how many measurements there would be room for in a search that did nothing else. Some thirty belong to a
	// trial and to the proof, and each server takes its time to start.
	windows        = 150
	shortestWindow = 500 * time.Millisecond
	longestWindow  = 4 * time.Second
	// inFlight is how many requests an open loop may have in flight, times the clients: as many as come while a busy
	// machine holds up this process, which would be skipped otherwise.
	inFlight = 100
)

// A Load is what servers are measured with.
type Load struct {
	Objective Objective `json:"objective"`
	Model     string    `json:"model"`
	// Clients is how many requests of one picture are in flight in a closed loop.
	Clients int `json:"clients"`
	// Rate is how many requests a second there are in the open loop that latencies are measured with; else 0.
	Rate float64 `json:"rate,omitempty"`
	// Window is how long requests are sent in a measurement.
	WindowSeconds float64 `json:"window_seconds"`
}

// NewLoad returns the load for a lane and a budget. That of [Latency] has no rate yet: see [Load.Half].
func NewLoad(o Objective, model string, lane target.Lane, budget time.Duration) Load {
	l := Load{Objective: o, Model: model, Clients: cpuClients}
	if lane == target.GPU {
		l.Clients = gpuClients
	}
	l.WindowSeconds = min(max(budget/windows, shortestWindow), longestWindow).Seconds()
	return l
}

// Half sets the rate of the open loop to half of what a server can do.
func (l Load) Half(ctx context.Context, s *Loaded) (Load, error) {
	if l.Objective != Latency {
		return l, nil
	}
	f, err := s.measure(ctx, s.full())
	l.Rate = moderate * f.PicturesPerSecond
	return l, err
}

func (s *Loaded) full() bench.Load {
	return bench.Load{
		Model: s.load.Model, Concurrency: s.load.Clients, Batch: 1, Connections: connections,
		DurationSeconds: s.load.WindowSeconds, TimeoutSeconds: timeout.Seconds(),
	}
}

// Loaded is a [Server] that is measured by its clients.
type Loaded struct {
	load    Load
	bench   bench.Bench
	clients []*triton.Client
	stop    func(context.Context) error
}

// Connect returns a server that was warmed: by the load of a closed loop, which has all of its instances execute, for
// the time of one measurement. What a GPU's instances need beside it, Triton did before it called them ready. stop ends
// the server, after an error too.
func Connect(
	ctx context.Context, host triton.Host, load Load, picture []byte, stop func(context.Context) error,
) (*Loaded, error) {
	s := &Loaded{load: load, stop: stop}
	err := s.connect(ctx, host, picture)
	if err == nil {
		_, err = s.measure(ctx, s.full())
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *Loaded) connect(ctx context.Context, host triton.Host, picture []byte) error {
	for range connections {
		client, err := triton.DialIn(host, bench.DialOptions()...)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, client)
	}
	pictures, err := bench.NewPictures(ctx, s.clients, s.load.Model, [][]byte{picture}, 1)
	s.bench.Requester = pictures
	return err
}

// Use has the server measured by another load.
func (s *Loaded) Use(l Load) { s.load = l }

// Measure loads the server for a moment. The requests of an open loop are due at the same times for the same n.
func (s *Loaded) Measure(ctx context.Context, n int) (Figures, error) {
	load := s.full()
	if s.load.Objective == Latency {
		load.Concurrency, load.Rate, load.Seed = 0, s.load.Rate, uint64(n) //nolint:gosec // a pair's number
		load.MaxInFlight = inFlight * s.load.Clients
	}
	return s.measure(ctx, load)
}

// measure returns the figures of a load all of whose requests were answered. The rate counts all of them, until the
// last one is answered: those of a window alone would be a batch more or less, and the clients over their mean latency
// favour small batches, whose first answers come early.
func (s *Loaded) measure(ctx context.Context, load bench.Load) (Figures, error) {
	m, err := s.bench.Run(ctx, load)
	took := time.Since(m.Started)
	switch {
	case err != nil:
		return Figures{}, err
	case m.Interrupted:
		return Figures{}, context.Cause(ctx)
	case len(m.Errors) > 0:
		return Figures{}, fmt.Errorf("%d of %d requests failed, the first with %s: %s", m.Failed, m.Requests,
			m.Errors[0].Class, m.Errors[0].Example)
	case m.Skipped > 0 || m.Answered == 0:
		return Figures{}, fmt.Errorf("%d requests were answered, and %d could not be sent in time", m.Answered, m.Skipped)
	}
	return Figures{
		PicturesPerSecond: float64(m.Answered) / took.Seconds(),
		P50Seconds:        m.Latency.P50Seconds, P99Seconds: m.Latency.P99Seconds,
	}, nil
}

// Stop ends the connections and the server.
func (s *Loaded) Stop(ctx context.Context) error {
	var err error
	for _, c := range s.clients {
		err = errors.Join(err, c.Close())
	}
	return errors.Join(err, s.stop(ctx))
}
