package tritontest

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// A schedule is who waits for an instance of a model, and how many instances
// work. The server's mutex guards it.
type schedule struct {
	waiting []*job
	working int
}

// A job is a request that waits for its execution.
type job struct {
	batch int
	since time.Time
	done  chan execution
}

// An execution is what became of a request in a model, or in the models of an
// ensemble.
type execution struct {
	// size is the number of elements that were executed together.
	size  int
	queue time.Duration
	// compute is all the execution's time; a request that shared it has as much.
	compute time.Duration
	// recorded says that the model's batches have it already.
	recorded bool
}

// instances is how many executions of the model there are at a time.
func (e *entry) instances() int { return max(1, e.Instances) }

// batch is the number of elements in a request.
func (e *entry) batch(inputs []triton.Tensor) int {
	if e.MaxBatch > 0 && len(inputs) > 0 {
		return int(inputs[0].Shape[0])
	}
	return 1
}

// execute runs a request through the model's instances, or through the models
// of an ensemble. As in Triton, what has begun goes on when the client leaves.
func (s *Server) execute(ctx context.Context, e *entry, batch int) (execution, error) {
	sum := execution{size: batch}
	for _, name := range e.Steps {
		step, err := s.loaded(name, "")
		if err != nil {
			return sum, err
		}
		start := time.Now()
		one, err := s.execute(ctx, step, batch)
		s.record(step, request{batch: batch, took: time.Since(start), execution: one}, err)
		if err != nil {
			return sum, err
		}
		sum.compute += one.compute // an ensemble's queue is its own
	}
	if e.Execute == nil {
		return sum, nil
	}
	j := &job{batch: batch, since: time.Now(), done: make(chan execution, 1)}
	s.mu.Lock()
	e.schedule.waiting = append(e.schedule.waiting, j)
	if e.schedule.working < e.instances() {
		e.schedule.working++
		s.work.Go(func() { s.serve(e) })
	}
	s.mu.Unlock()
	select {
	case x := <-j.done:
		return x, nil
	case <-ctx.Done():
		return sum, asStatus(ctx.Err())
	}
}

// serve is an instance at work: it executes what waits until nothing does.
func (s *Server) serve(e *entry) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		jobs, size := s.take(e)
		if len(jobs) == 0 {
			return
		}
		start := time.Now()
		timer.Reset(e.Execute(size))
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		took := time.Since(start)
		s.mu.Lock()
		e.stats.execute(size, took)
		s.mu.Unlock()
		for _, j := range jobs {
			j.done <- execution{size: size, queue: start.Sub(j.since), compute: took, recorded: true}
		}
	}
}

// take takes what one execution has room for from the queue. With nothing to
// take, the instance is done.
func (s *Server) take(e *entry) (jobs []*job, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &e.schedule
	for len(q.waiting) > 0 {
		next := q.waiting[0]
		if len(jobs) > 0 && (!e.DynamicBatching || size+next.batch > e.MaxBatch) {
			break
		}
		jobs, size, q.waiting = append(jobs, next), size+next.batch, q.waiting[1:]
	}
	if len(jobs) == 0 {
		q.working--
	}
	return jobs, size
}

// stats are a model's counts since it was loaded.
type stats struct {
	last time.Time
	// Of requests.
	success, fail, queue, compute triton.Stat
	inferences                    uint64
	// Of executions.
	executions uint64
	batches    map[uint64]triton.Stat
}

// execute counts one execution.
func (s *stats) execute(size int, took time.Duration) {
	if s.batches == nil {
		s.batches = make(map[uint64]triton.Stat)
	}
	n := uint64(size) //nolint:gosec // checked not to be negative
	s.batches[n] = plus(s.batches[n], took)
	s.executions++
}

// A request is one that ended.
type request struct {
	batch     int
	took      time.Duration
	execution execution
}

// record counts a request as Triton does: durations of executions count once
// for each request that shared them, and once for each execution in the batch
// statistics.
func (s *Server) record(e *entry, r request, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		e.stats.fail = plus(e.stats.fail, r.took)
		return
	}
	x := r.execution
	if x.compute == 0 { // its Infer is all that executes
		x.compute = r.took
	}
	if !x.recorded {
		e.stats.execute(x.size, x.compute)
	}
	e.stats.last = time.Now()
	e.stats.success = plus(e.stats.success, r.took)
	e.stats.queue = plus(e.stats.queue, x.queue)
	e.stats.compute = plus(e.stats.compute, x.compute)
	e.stats.inferences += uint64(r.batch) //nolint:gosec // checked not to be negative
}

func plus(s triton.Stat, took time.Duration) triton.Stat {
	return triton.Stat{Count: s.Count + 1, Total: s.Total + took}
}

func (e *entry) statistics() *pb.ModelStatistics {
	out := &pb.ModelStatistics{
		Name:           e.Name,
		Version:        "1",
		InferenceCount: e.stats.inferences,
		ExecutionCount: e.stats.executions,
		InferenceStats: &pb.InferStatistics{
			Success:      duration(e.stats.success),
			Fail:         duration(e.stats.fail),
			Queue:        duration(e.stats.queue),
			ComputeInfer: duration(e.stats.compute),
		},
	}
	if !e.stats.last.IsZero() {
		out.LastInference = uint64(e.stats.last.UnixMilli())
	}
	for _, size := range slices.Sorted(maps.Keys(e.stats.batches)) {
		out.BatchStats = append(out.BatchStats, &pb.InferBatchStatistics{
			BatchSize: size, ComputeInfer: duration(e.stats.batches[size]),
		})
	}
	return out
}

func duration(s triton.Stat) *pb.StatisticDuration {
	return &pb.StatisticDuration{Count: s.Count, Ns: uint64(s.Total)} //nolint:gosec // measured, so not negative
}

// A Stage is a model of an ensemble whose times are known.
type Stage struct {
	Name      string
	Instances int
	// MaxBatch is the most elements of one execution, which requests that wait
	// share; 1 executes each request of one element by itself.
	MaxBatch int
	// Time returns how long an execution of that many elements takes.
	Time func(batch int) time.Duration
}

// Staged returns an ensemble with the outer form of [Classifier]'s, which runs
// each request through stages, and their models. Its answer is two zeros for
// each picture.
func Staged(name string, stages ...Stage) []Model {
	ensemble := Classifier(name, []string{"a", "b"}, func([]byte) ([]float32, error) { return []float32{0, 0}, nil })
	var models []Model
	for _, stage := range stages {
		ensemble.Requires = append(ensemble.Requires, stage.Name)
		models = append(models, Model{
			Name: stage.Name, MaxBatch: stage.MaxBatch, DynamicBatching: stage.MaxBatch > 1,
			Instances: stage.Instances, Execute: stage.Time,
			Infer: func(context.Context, []triton.Tensor) ([]triton.Tensor, error) {
				return nil, status.Error(codes.Unimplemented, "a stage is used by its ensemble alone")
			},
		})
	}
	ensemble.Steps = ensemble.Requires
	return append([]Model{ensemble}, models...)
}
