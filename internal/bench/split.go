package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// A Model is what a server's configuration says of a model that takes part in a request.
type Model struct {
	Name string `json:"name"`
	// Ensemble is true for one that executes nothing itself: its requests run through its steps.
	Ensemble bool `json:"ensemble"`
	// Instances is how many executions there are at a time; 0 for an ensemble.
	Instances int `json:"instances"`
	// CPU is true for one whose instances are all on the CPU.
	CPU bool `json:"cpu"`
	// MaxBatch is the most pictures of one execution, 0 for a model without batches; FullBatch is how many the server
	// prefers to put together, MaxBatch if it prefers none, at least 1.
	MaxBatch  int `json:"max_batch"`
	FullBatch int `json:"full_batch"`
	// BatchDelaySeconds is how long a request waits for others to share its batch, though an instance is free.
	BatchDelaySeconds float64 `json:"batch_delay_seconds"`
}

// A Snapshot are the counts of all models since they were loaded, at one time.
type Snapshot struct {
	Taken  time.Time
	Models []triton.Statistics
}

// A Split is what a server says that requests did in one model, in a window of time.
type Split struct {
	Model     string `json:"model"`
	Ensemble  bool   `json:"ensemble" jsonschema:"executes nothing itself"`
	Instances int    `json:"instances"`
	Requests  uint64 `json:"requests" jsonschema:"answered"`
	Failures  uint64 `json:"failures"`
	Pictures  uint64 `json:"pictures"`
	// Executions is how often a batch was executed, of AverageBatch pictures.
	Executions   uint64  `json:"executions"`
	AverageBatch float64 `json:"average_batch" jsonschema:"pictures in an execution"`
	// The means of a request: in the model as a whole, waiting in its queue, and in the parts of the execution that it
	// was in, which it may share with others. An ensemble's are sums over its models.
	RequestSeconds float64 `json:"request_seconds" jsonschema:"mean of a request in the model as a whole"`
	QueueSeconds   float64 `json:"queue_seconds" jsonschema:"mean of a request in the queue"`
	InputSeconds   float64 `json:"input_seconds" jsonschema:"mean of a request: preparing inputs"`
	ComputeSeconds float64 `json:"compute_seconds" jsonschema:"mean of a request: the model itself"`
	OutputSeconds  float64 `json:"output_seconds" jsonschema:"mean of a request: extracting outputs"`
	// BatchDelaySeconds is the part of QueueSeconds that can be a wait for others to fill a batch.
	BatchDelaySeconds float64 `json:"batch_delay_seconds" jsonschema:"part of the queue that can be a wait for a batch"`
	// Busy is the share of the time that the instances were executing, 0 to 1. It is more where a backend begins an
	// execution before the one before has its outputs out. 0 for an ensemble.
	Busy float64 `json:"busy" jsonschema:"share of the time that the instances were executing"`
}

// service is how long a request is executed, with those that share its batch, in seconds.
func (s Split) service() float64 { return s.InputSeconds + s.ComputeSeconds + s.OutputSeconds }

// SplitOf returns what models did between two snapshots, in their order. It is an error if the server was restarted or
// one of them was loaded anew in between, and if one is not there.
func SplitOf(models []Model, before, after Snapshot) ([]Split, error) {
	elapsed := after.Taken.Sub(before.Taken)
	if elapsed <= 0 {
		return nil, fmt.Errorf("the snapshots are %v apart", elapsed)
	}
	out := make([]Split, 0, len(models))
	for _, m := range models {
		from, err := before.total(m.Name)
		if err != nil {
			return nil, err
		}
		to, err := after.total(m.Name)
		if err != nil {
			return nil, err
		}
		if to.before(from) {
			return nil, fmt.Errorf("model %s was loaded anew while it was measured: its counts became less", m.Name)
		}
		out = append(out, m.split(from, to, elapsed))
	}
	return out, nil
}

// SinceLoad returns what models did since they were loaded, in their order. It has no Busy, since a server does not say
// when that was. It is an error if one of them is not there.
func SinceLoad(models []Model, now Snapshot) ([]Split, error) {
	out := make([]Split, 0, len(models))
	for _, m := range models {
		t, err := now.total(m.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, m.split(total{}, t, 0))
	}
	return out, nil
}

// A total is the counts of all versions of a model.
type total struct {
	success, fail, queue, input, compute, output triton.Stat
	pictures, executions                         uint64
	// busy is the time of all executions. What Triton counts of requests has it once for each request that shared one.
	busy time.Duration
}

func (s Snapshot) total(model string) (total, error) {
	var t total
	found := false
	for _, m := range s.Models {
		if m.Model != model {
			continue
		}
		found = true
		t.success, t.fail, t.queue = plus(t.success, m.Success), plus(t.fail, m.Fail), plus(t.queue, m.Queue)
		t.input, t.compute = plus(t.input, m.ComputeInput), plus(t.compute, m.ComputeInfer)
		t.output = plus(t.output, m.ComputeOutput)
		t.pictures, t.executions = t.pictures+m.Inferences, t.executions+m.Executions
		for _, b := range m.Batches {
			t.busy += b.ComputeInput.Total + b.ComputeInfer.Total + b.ComputeOutput.Total
		}
	}
	if !found {
		return t, fmt.Errorf("the server has no statistics of model %s", model)
	}
	return t, nil
}

// counted says whether each of the models has answered so many requests more than before.
func (s Snapshot) counted(before Snapshot, models []Model, requests int) bool {
	for _, m := range models {
		from, errFrom := before.total(m.Name)
		to, errTo := s.total(m.Name)
		if errFrom != nil || errTo != nil {
			return false
		}
		if to.success.Count < from.success.Count+uint64(requests) { //nolint:gosec // a load's, which was checked
			return false
		}
	}
	return true
}

func plus(a, b triton.Stat) triton.Stat {
	return triton.Stat{Count: a.Count + b.Count, Total: a.Total + b.Total}
}

func (t total) before(from total) bool {
	return t.success.Count < from.success.Count || t.fail.Count < from.fail.Count || t.executions < from.executions ||
		t.pictures < from.pictures || t.busy < from.busy
}

// split returns what happened between two counts. It has no Busy if it is not known how long that took, 0.
func (m Model) split(from, to total, elapsed time.Duration) Split {
	s := Split{
		Model: m.Name, Ensemble: m.Ensemble, Instances: m.Instances, BatchDelaySeconds: m.BatchDelaySeconds,
		Requests: to.success.Count - from.success.Count, Failures: to.fail.Count - from.fail.Count,
		Pictures: to.pictures - from.pictures, Executions: to.executions - from.executions,
		RequestSeconds: mean(from.success, to.success), QueueSeconds: mean(from.queue, to.queue),
		InputSeconds: mean(from.input, to.input), ComputeSeconds: mean(from.compute, to.compute),
		OutputSeconds: mean(from.output, to.output),
	}
	if s.Executions > 0 {
		s.AverageBatch = float64(s.Pictures) / float64(s.Executions)
	}
	if m.Instances > 0 && elapsed > 0 {
		s.Busy = (to.busy - from.busy).Seconds() / (elapsed.Seconds() * float64(m.Instances))
	}
	return s
}

// mean is the time of one event between two counts, in seconds.
func mean(from, to triton.Stat) float64 {
	if to.Count <= from.Count {
		return 0
	}
	return (to.Total - from.Total).Seconds() / float64(to.Count-from.Count)
}

// Triton is a [Server] that is asked by a client. Use [NewTriton] to make one.
type Triton struct {
	client *triton.Client
	models []Model
}

// NewTriton asks a server for the configuration of models and of those that they are composed of. Ask by a connection
// of its own: one that is full of pictures delays the answer.
func NewTriton(ctx context.Context, client *triton.Client, models ...string) (*Triton, error) {
	t := &Triton{client: client}
	for _, name := range models {
		if err := t.add(ctx, name); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// add appends a model and those of its steps, each once.
func (t *Triton) add(ctx context.Context, name string) error {
	if slices.ContainsFunc(t.models, func(m Model) bool { return m.Name == name }) {
		return nil
	}
	config, err := t.client.ModelConfig(ctx, name)
	if err != nil {
		return err
	}
	steps := config.GetEnsembleScheduling().GetStep()
	m := Model{Name: name, Ensemble: len(steps) > 0, MaxBatch: int(config.GetMaxBatchSize())}
	m.FullBatch = max(1, m.MaxBatch)
	batching := config.GetDynamicBatching()
	if preferred := batching.GetPreferredBatchSize(); len(preferred) > 0 {
		m.FullBatch = int(slices.Max(preferred))
	}
	delay := min(batching.GetMaxQueueDelayMicroseconds(), uint64(math.MaxInt64/time.Microsecond))
	m.BatchDelaySeconds = (time.Duration(delay) * time.Microsecond).Seconds()
	if !m.Ensemble {
		m.CPU = len(config.GetInstanceGroup()) > 0
		for _, group := range config.GetInstanceGroup() {
			m.CPU = m.CPU && group.GetKind() == pb.ModelInstanceGroup_KIND_CPU
			if !group.GetPassive() {
				m.Instances += int(group.GetCount()) * max(1, len(group.GetGpus())) // there are as many on each GPU
			}
		}
		m.Instances = max(1, m.Instances) // a server has one where nothing is said
	}
	t.models = append(t.models, m)
	for _, step := range steps {
		if err := t.add(ctx, step.GetModelName()); err != nil {
			return err
		}
	}
	return nil
}

// Models returns each model that was asked for, followed by those of its steps in their order, each once.
func (t *Triton) Models() []Model { return slices.Clone(t.models) }

// Snapshot asks for the counts of all models.
func (t *Triton) Snapshot(ctx context.Context) (Snapshot, error) {
	asked := time.Now()
	all, err := t.client.Statistics(ctx, "")
	if err != nil {
		return Snapshot{}, err
	}
	answered := time.Now()
	return Snapshot{Taken: asked.Add(answered.Sub(asked) / 2), Models: all}, nil
}

// WarmupFor returns a warm-up that has each instance of each model execute full batches, a few times: as many requests
// at a time as the model with the most instances has, each of a batch that fills the model with the largest, as far as
// every model takes it. On the CPU no first batch decides anything, and a full one takes seconds: single pictures do.
func WarmupFor(models []Model) Warmup {
	const rounds = 4 // an instance that is free takes the next request, whichever had the one before
	w := Warmup{Batch: 1, Concurrency: 1}
	most := math.MaxInt
	for _, m := range models {
		w.Concurrency = max(w.Concurrency, m.Instances)
		most = min(most, max(1, m.MaxBatch))
		if !m.Ensemble && !m.CPU {
			w.Batch = max(w.Batch, m.FullBatch)
		}
	}
	w.Batch = min(w.Batch, most)
	w.Requests = rounds * w.Concurrency
	return w
}
