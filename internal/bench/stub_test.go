package bench_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// served starts a server with stages of known service times, and connects to it.
func served(t *testing.T, connections int, stages ...tritontest.Stage) (*tritontest.Server, bench.Bench) {
	t.Helper()
	return connect(t, tritontest.New(t, tritontest.Staged("ensemble", stages...)...), connections)
}

func connect(t *testing.T, server *tritontest.Server, connections int) (*tritontest.Server, bench.Bench) {
	t.Helper()
	server.MustLoad("ensemble")
	dial := func() *triton.Client {
		client, err := triton.DialIn(server, bench.DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	clients := make([]*triton.Client, connections)
	for i := range clients {
		clients[i] = dial()
	}
	pictures, err := bench.NewPictures(t.Context(), clients, "ensemble", [][]byte{[]byte("one"), []byte("picture two")}, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	account, err := bench.NewTriton(t.Context(), dial(), "ensemble")
	if err != nil {
		t.Fatal(err)
	}
	return server, bench.Bench{Requester: pictures, Server: account}
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// A server that is stopped for 3 s at 20 requests a second, as by docker pause, shows in p99.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	server, b := served(t, 1, tritontest.Stage{Name: "net", Instances: 8, MaxBatch: 1, Time: always(2 * time.Millisecond)})
	const freeze = 3 * time.Second
	var frozen sync.Once
	thawed := make(chan struct{})
	start := time.Now()
	server.Intercept(func(ctx context.Context, rpc, _ string) error {
		if rpc != "ModelInfer" || time.Since(start) < time.Second {
			return nil
		}
		frozen.Do(func() { time.AfterFunc(freeze, func() { close(thawed) }) })
		select {
		case <-thawed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	m := measure(t.Context(), t, b, openLoad(20, 5*time.Second))
	if m.Answered != 100 || m.Failed != 0 || m.Latency.P99Seconds < 2.5 {
		t.Errorf("%d answered, %d failed, latencies %+v", m.Answered, m.Failed, m.Latency)
	}
}

// A server that is killed while it is measured: what it did not answer is counted, and its account is missing.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]bench.Load{
		"closed": closedLoad(4, time.Second), "open": openLoad(100, time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, b := served(t, 2, tritontest.Stage{Name: "net", Instances: 8, MaxBatch: 1, Time: always(5 * time.Millisecond)})
			kill := time.AfterFunc(500*time.Millisecond, server.Stop)
			defer kill.Stop()
			m := measure(t.Context(), t, b, load)
			if m.Answered == 0 || m.Failed < 20 || m.Failed > 500 || len(m.Errors) == 0 || m.Errors[0].Class != "Unavailable" {
				t.Errorf("%d answered, %d failed: %+v", m.Answered, m.Failed, m.Errors)
			}
			if len(m.Models) != 0 || m.ModelsMissing == "" {
				t.Errorf("models %+v, missing %q", m.Models, m.ModelsMissing)
			}
		})
	}
}

// What the server says it did is what was asked of it, and its times are those that it was made with.
func TestSplitOfServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, b := connect(t, tritontest.NewInMemory(t, tritontest.Staged("ensemble",
			tritontest.Stage{Name: "dali", Instances: 2, MaxBatch: 8, Time: always(20 * time.Millisecond)},
			tritontest.Stage{Name: "net", Instances: 4, MaxBatch: 8, Time: always(5 * time.Millisecond)},
		)...), 1)
		load := closedLoad(16, time.Second)
		load.Batch, load.Warmup = 2, bench.WarmupFor(b.Server.Models())
		load.Warmup.Batch = 2 // what was prepared
		m := measure(t.Context(), t, b, load)
		if len(m.Models) != 3 || m.Models[0].Model != "ensemble" || m.Models[1].Model != "dali" || m.Models[2].Model != "net" {
			t.Fatalf("models %+v, missing %q", m.Models, m.ModelsMissing)
		}
		ensemble, dali := m.Models[0], m.Models[1]
		if dali.Busy < 0.9 || dali.Busy > 1.001 || dali.AverageBatch < 3 || dali.AverageBatch > 8 || dali.Instances != 2 {
			t.Errorf("dali %+v", dali)
		}
		if !about(dali.ComputeSeconds, 0.020, 1e-6) || dali.Pictures != 2*dali.Requests {
			t.Errorf("dali %+v", dali)
		}
		if !ensemble.Ensemble || ensemble.Busy != 0 || !about(ensemble.RequestSeconds, m.Latency.MeanSeconds, 0.001) {
			t.Errorf("ensemble %+v, mean latency %v", ensemble, m.Latency.MeanSeconds)
		}
		if m.Limit.Stage != bench.LimitModel || m.Limit.Model != "dali" {
			t.Errorf("limit %+v", m.Limit)
		}
		if w := bench.WarmupFor(b.Server.Models()); w != (bench.Warmup{Requests: 16, Batch: 1, Concurrency: 4}) {
			t.Errorf("warm-up %+v", w)
		}
	})
}

func TestNewPicturesRefuses(t *testing.T) {
	t.Parallel()
	input := func(name string, datatype triton.Datatype, shape ...int64) triton.TensorMetadata {
		return triton.TensorMetadata{Name: name, Datatype: datatype, Shape: shape}
	}
	server := tritontest.New(t,
		tritontest.Model{Name: "two", Inputs: []triton.TensorMetadata{input("A", triton.Uint8, -1), input("B", triton.Uint8, -1)}},
		tritontest.Model{Name: "floats", Inputs: []triton.TensorMetadata{input("A", triton.FP32, -1)}},
		tritontest.Model{Name: "deep", Inputs: []triton.TensorMetadata{input("A", triton.Uint8, -1, -1, -1)}},
		tritontest.Model{Name: "single", Inputs: []triton.TensorMetadata{input("A", triton.Uint8, -1)}},
		tritontest.Model{Name: "strings", MaxBatch: 4, Inputs: []triton.TensorMetadata{input("A", triton.Bytes, -1, 1)}, Infer: func(_ context.Context, inputs []triton.Tensor) ([]triton.Tensor, error) {
			elements, err := inputs[0].ByteStrings()
			if err == nil && (len(elements) != 3 || string(elements[2]) != "x") {
				err = fmt.Errorf("elements %q", elements)
			}
			return nil, err
		}},
	)
	server.MustLoad("two", "floats", "deep", "single", "strings")
	clients := []*triton.Client{server.Client(t)}
	for model, want := range map[string]string{
		"two":    "model two has 2 inputs, not one for the picture",
		"floats": "model floats: its input A is of type FP32, which no encoded picture is",
		"deep":   "model deep: its input A has shape [-1 -1 -1], not a row for each picture",
		"single": "model single takes one picture in a request, not 3",
	} {
		if _, err := bench.NewPictures(t.Context(), clients, model, [][]byte{[]byte("x")}, 1, 3); err == nil || err.Error() != want {
			t.Errorf("error %v; want %s", err, want)
		}
	}
	if _, err := bench.NewPictures(t.Context(), clients, "none", [][]byte{[]byte("x")}, 1); !errors.Is(err, triton.ErrNotFound) {
		t.Errorf("error %v; want an ErrNotFound", err)
	}
	if _, err := bench.NewPictures(t.Context(), clients, "single", nil, 1); err == nil {
		t.Error("no pictures are no error")
	}
	p, err := bench.NewPictures(t.Context(), clients, "strings", [][]byte{[]byte("x")}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Request(t.Context(), 7, 3); err != nil {
		t.Error(err)
	}
	if err := p.Request(t.Context(), 7, 2); err == nil {
		t.Error("a batch that was not prepared is no error")
	}
}

// A setup is a server and a client whose service times are known, and what limits them by arithmetic.
type setup struct {
	stages []tritontest.Stage
	// network is how long a request is under way outside of the models.
	network time.Duration
	// Each request takes so long of one of the client's cores.
	client time.Duration
	cores  int
	load   bench.Load

	want  bench.Stage
	model string
}

// busyClient is a requester whose CPU time is known: each request takes so long of one of its cores.
type busyClient struct {
	bench.Requester
	cores chan struct{}
	takes time.Duration
	used  atomic.Int64
}

func (c *busyClient) Request(ctx context.Context, n, batch int) error {
	c.cores <- struct{}{}
	start := time.Now()
	err := sleep(ctx, c.takes)
	c.used.Add(int64(time.Since(start)))
	<-c.cores
	if err != nil {
		return err
	}
	return c.Requester.Request(ctx, n, batch)
}

// run measures a set-up.
func (s setup) run(t *testing.T) bench.Measurement {
	t.Helper()
	server, b := connect(t, tritontest.NewInMemory(t, tritontest.Staged("ensemble", s.stages...)...), 2)
	server.Intercept(func(ctx context.Context, rpc, _ string) error {
		if rpc != "ModelInfer" {
			return nil
		}
		return sleep(ctx, s.network)
	})
	client := &busyClient{Requester: b.Requester, cores: make(chan struct{}, s.cores), takes: s.client}
	b.Requester, b.Cores = client, s.cores
	b.CPU = func() (time.Duration, error) { return time.Duration(client.used.Load()), nil }
	return measure(t.Context(), t, b, s.load)
}

// setups draws set-ups in which one stage has at most 0.7 of the capacity of any other, so that what limits is no matter
// of taste, and at most 250 requests a second, which are served fast. An execution takes from half to one and a half of
// the stage's mean time.
func setups() []setup {
	const window = 3 * time.Second
	draw := rand.New(rand.NewPCG(50, 1))
	between := func(low, high float64) float64 { return low + (high-low)*draw.Float64() }
	var service time.Duration // of the stages that the set-up has so far
	// stage has that capacity, with instances and batches as they come.
	stage := func(name string, requests float64, batch int) tritontest.Stage {
		s := tritontest.Stage{Name: name, Instances: 1 + draw.IntN(4), MaxBatch: batch}
		mean := time.Duration(float64(s.Instances*batch) / requests * float64(time.Second))
		service += mean
		var mu sync.Mutex
		varies := rand.New(rand.NewPCG(draw.Uint64(), 0))
		s.Time = func(int) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration((0.5 + varies.Float64()) * float64(mean))
		}
		return s
	}
	latency := func(s setup) float64 { return (s.network + s.client + service).Seconds() }
	var all []setup
	for i := range 50 {
		service = 0
		s := setup{client: 100 * time.Microsecond, cores: 4}
		rate := between(60, 250)
		far := rate * between(1/0.7, 4)
		names := []string{"dali", "net"}
		if i%2 == 1 {
			names = []string{"net", "dali"} // which of them limits
		}
		batch := []int{1, 1, 4, 8}[draw.IntN(4)]
		limited := func(capacity float64) { s.load = closedLoad(int(1.5*capacity*latency(s))+2*batch+2, window) }
		switch i % 10 {
		case 0, 1, 2, 3: // a model in a closed loop, with half more requests than keep it busy, and a network of any length
			s.stages = []tritontest.Stage{stage(names[0], rate, batch), stage(names[1], far, 1)}
			s.network = time.Duration(between(0, 30) * float64(time.Millisecond))
			limited(rate)
			s.want, s.model = bench.LimitModel, names[0]
		case 4: // a model in an open loop that asks for more than it has
			s.stages = []tritontest.Stage{stage(names[0], rate, 1), stage(names[1], far, 1)}
			s.load = openLoad(between(1.4, 2)*rate, window)
			s.load.MaxInFlight = int(2*rate*latency(s)) + 16
			s.want, s.model = bench.LimitModel, names[0]
		case 5: // the client's CPU
			s.stages = []tritontest.Stage{stage("dali", far, 1), stage("net", far, 1)}
			s.cores = 1 + draw.IntN(2)
			s.client = time.Duration(float64(s.cores) / rate * float64(time.Second))
			limited(rate)
			s.want = bench.LimitClient
		case 6: // the requests that the client may have in flight
			s.stages = []tritontest.Stage{stage("dali", far, 1), stage("net", far, 1)}
			s.network = time.Duration(between(20, 60) * float64(time.Millisecond))
			s.load = openLoad(rate, window)
			s.load.MaxInFlight = max(1, int(between(0.3, 0.6)*rate*latency(s)))
			s.want = bench.LimitClient
		case 7: // the network, of which a request's latency is three quarters and more
			s.stages = []tritontest.Stage{stage("dali", 2*far, 1), stage("net", 2*far, 1)}
			s.network = time.Duration(between(3, 6) * latency(s) * float64(time.Second))
			s.load = closedLoad(max(1, int(0.4*far*latency(s))), window)
			s.want = bench.LimitNetwork
		case 8: // nothing: half of the instances and fewer have a request
			s.stages = []tritontest.Stage{stage("dali", far, 1), stage("net", far, 1)}
			for j := range s.stages {
				s.stages[j].Instances += 2
			}
			s.load = closedLoad(max(1, min(s.stages[0].Instances, s.stages[1].Instances)/2), window)
			s.want = bench.LimitNone
		case 9: // nothing: an open loop asks for less than half of what there is
			s.stages = []tritontest.Stage{stage("dali", far, 1), stage("net", far, 1)}
			s.network = time.Duration(between(0, 30) * float64(time.Millisecond))
			s.load = openLoad(between(0.2, 0.45)*far, window)
			s.want = bench.LimitNone
		}
		s.load.Connections = 2
		all = append(all, s)
	}
	return all
}

// The stage that limits is the one that arithmetic says, in each of fifty set-ups of real servers.
func TestLimitOfStubs(t *testing.T) {
	t.Parallel()
	all := setups()
	right := 0
	for i, s := range all {
		synctest.Test(t, func(t *testing.T) {
			m := s.run(t)
			if m.Limit.Stage == s.want && m.Limit.Model == s.model {
				right++
				return
			}
			t.Errorf("set-up %d: %s %s; want %s %s\n%s\nnetwork %v, client %v; %s: %.0f/s, latency %.1f ms, skipped %d, client %.2f\n%+v", i,
				m.Limit.Stage, m.Limit.Model, s.want, s.model, m.Limit.Why, s.network, s.client, s.load, m.AchievedRate,
				1e3*m.Latency.MeanSeconds, m.Skipped, m.Client.Share, m.Models)
		})
	}
	t.Logf("right in %d of %d", right, len(all))
}
