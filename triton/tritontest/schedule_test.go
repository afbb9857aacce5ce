package tritontest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// Requests that wait share an execution; each counts all of its time, the batch statistics count it once.
func TestStages(t *testing.T) {
	t.Parallel()
	const single, batched = 3 * time.Millisecond, 20 * time.Millisecond
	server := tritontest.New(t, tritontest.Staged("ensemble",
		tritontest.Stage{Name: "one", Instances: 2, MaxBatch: 1, Time: func(int) time.Duration { return single }},
		tritontest.Stage{Name: "many", Instances: 1, MaxBatch: 8, Time: func(int) time.Duration { return batched }},
	)...)
	server.MustLoad("ensemble")
	c := server.Client(t)
	const requests = 8
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if _, err := c.Classify(within(t), "ensemble", []byte("picture"), 1); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all := map[string]triton.Statistics{}
	statistics, err := c.Statistics(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statistics {
		all[s.Model] = s
	}
	one, many, ensemble := all["one"], all["many"], all["ensemble"]
	if one.Executions != requests || many.Executions >= requests || many.Inferences != requests {
		t.Errorf("executions %d and %d of %d pictures", one.Executions, many.Executions, many.Inferences)
	}
	var executed time.Duration
	for _, b := range many.Batches {
		executed += b.ComputeInfer.Total
	}
	if many.ComputeInfer.Count != requests || many.ComputeInfer.Total <= executed || executed < batched {
		t.Errorf("requests' time %v, executions' %v", many.ComputeInfer, executed)
	}
	if one.Queue.Total == 0 || ensemble.Queue.Total != 0 {
		t.Errorf("queues %v and %v", one.Queue, ensemble.Queue)
	}
	if want := one.ComputeInfer.Total + many.ComputeInfer.Total; ensemble.ComputeInfer.Total != want || ensemble.Success.Total < want {
		t.Errorf("the ensemble's compute %v of %v; want %v", ensemble.ComputeInfer, ensemble.Success, want)
	}
	config, err := c.ModelConfig(within(t), "one")
	if err != nil || config.GetInstanceGroup()[0].GetCount() != 2 {
		t.Errorf("configuration %v, %v", config, err)
	}
	config, err = c.ModelConfig(within(t), "ensemble")
	if err != nil || len(config.GetEnsembleScheduling().GetStep()) != 2 {
		t.Errorf("configuration %v, %v", config, err)
	}
}
