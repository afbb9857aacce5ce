package bench_test

import (
	"testing"

	"github.com/dalirun/dalirun/internal/bench"
)

// h100 are figures like those of an H100 whose DALI instances limit, with 256 requests at a time.
func h100() bench.Measurement {
	return bench.Measurement{
		Load:     bench.Load{Model: "ensemble", Concurrency: 256, Batch: 1},
		Requests: 7933, Answered: 7933, WindowSeconds: 1, AchievedRate: 7933,
		Latency: bench.Latency{Count: 7933, MeanSeconds: 0.0323, P50Seconds: 0.031},
		Client:  bench.Client{Cores: 16, Share: 0.09},
		Models: []bench.Split{
			{Model: "ensemble", Ensemble: true, Requests: 7933, RequestSeconds: 0.0311},
			{Model: "dali", Instances: 4, Requests: 7933, Busy: 0.91, QueueSeconds: 0.0054, ComputeSeconds: 0.0165, BatchDelaySeconds: 0.0005},
			{Model: "resnet50_trt", Instances: 2, Requests: 7933, Busy: 0.22, QueueSeconds: 0.0026, ComputeSeconds: 0.0038, BatchDelaySeconds: 0.0005},
		},
	}
}

func TestFindLimit(t *testing.T) {
	t.Parallel()
	open := func(m *bench.Measurement, asked float64) {
		m.Load.Concurrency, m.Load.Rate, m.Load.MaxInFlight, m.AskedRate = 0, asked, 512, asked
	}
	for name, test := range map[string]struct {
		change func(*bench.Measurement)
		stage  bench.Stage
		model  string
		why    string
	}{
		"a full model": {
			func(*bench.Measurement) {}, bench.LimitModel, "dali",
			"dali: 4 instances busy 0.91, queue 5.4 ms; resnet50_trt busy 0.22",
		},
		"the busiest of two": {
			func(m *bench.Measurement) { m.Models[2].Busy, m.Models[2].Instances = 0.97, 1 }, bench.LimitModel, "resnet50_trt",
			"resnet50_trt: its instance busy 0.97, queue 2.6 ms; dali busy 0.91",
		},
		"a queue before instances that are often busy": {
			func(m *bench.Measurement) { m.Models[1].Busy, m.Models[1].QueueSeconds = 0.70, 0.010 }, bench.LimitModel, "dali",
			"dali: 4 instances busy 0.70, queue 10.0 ms; resnet50_trt busy 0.22",
		},
		"often busy, in an open loop that keeps up": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Models[1].QueueSeconds = 0.70, 0.010
				open(m, 7940)
			}, bench.LimitNone, "",
			"the rate asked for was reached, and no model is full: 1.2 ms of the mean latency of 32.3 ms outside of the server's models, 31.1 ms in them",
		},
		"often busy, in an open loop that does not": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Models[1].QueueSeconds = 0.70, 0.010
				open(m, 9000)
			}, bench.LimitModel, "dali",
			"dali: 4 instances busy 0.70, queue 10.0 ms; resnet50_trt busy 0.22",
		},
		"a batch that does not fill": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Models[1].QueueSeconds, m.Models[1].BatchDelaySeconds = 0.2, 0.025, 0.025
			}, bench.LimitModel, "dali",
			"dali: queue 25.0 ms though instances are free (busy 0.20): requests wait for others to fill a batch, at most 25.0 ms",
		},
		"the client's CPU": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Client.Share, m.Client.CPUPerRequestSeconds = 0.5, 0.93, 36e-6
			}, bench.LimitClient, "",
			"its CPU is busy 0.93 of 16 cores, 36 µs a request",
		},
		"what the client may have in flight": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Skipped = 0.5, 793
				open(m, 8726)
			}, bench.LimitClient, "",
			"793 of 8726 requests were skipped, as 512 were in flight; the busiest of the server: dali: 4 instances busy 0.50, queue 5.4 ms; resnet50_trt busy 0.22",
		},
		"a client that is late": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Client.SendDelay = 0.5, bench.Latency{Count: 1, MeanSeconds: 0.020}
				open(m, 7933)
			}, bench.LimitClient, "",
			"requests were sent 20.0 ms late, of a mean latency of 32.3 ms",
		},
		"the network": {
			func(m *bench.Measurement) { m.Models[1].Busy, m.Models[0].RequestSeconds = 0.3, 0.004 }, bench.LimitNetwork, "",
			"28.3 ms of the mean latency of 32.3 ms outside of the server's models, 4.0 ms in them: dali: 4 instances busy 0.30, queue 5.4 ms; resnet50_trt busy 0.22",
		},
		"a window that is too short": {
			func(m *bench.Measurement) {
				m.Models[1].Busy, m.Latency.P50Seconds = 0.5, 0.4
				open(m, 7933)
			}, bench.LimitUnknown, "",
			"half of the requests took 400 ms or more, which is too long for 1.0 s of measuring: ask for less, or for longer; dali: 4 instances busy 0.50, queue 5.4 ms; resnet50_trt busy 0.22",
		},
		"nothing": {
			func(m *bench.Measurement) { m.Models[1].Busy = 0.5 }, bench.LimitNone, "",
			"more requests at a time would get more answers: dali: 4 instances busy 0.50, queue 5.4 ms; resnet50_trt busy 0.22",
		},
		"no answers": {
			func(m *bench.Measurement) { m.Answered = 0 }, bench.LimitUnknown, "", "no request was answered",
		},
		"no account": {
			func(m *bench.Measurement) { m.Models, m.ModelsMissing = nil, "connection refused" }, bench.LimitUnknown, "",
			"the server's own account is missing: connection refused",
		},
		"no account, and a client without CPU": {
			func(m *bench.Measurement) { m.Models, m.Client.Share = nil, 1 }, bench.LimitClient, "",
			"its CPU is busy 1.00 of 16 cores, 0 µs a request",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := h100()
			test.change(&m)
			if got, want := bench.FindLimit(m), (bench.Limit{Stage: test.stage, Model: test.model, Why: test.why}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
