package triton

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dalirun/dalirun/triton/pb"
)

// Statistics are counts and durations of one version of a model since it was
// loaded.
type Statistics struct {
	Model   string
	Version string
	// LastInference is zero if there was none.
	LastInference time.Time
	// Inferences counts each picture of a batch, Executions each batch as it
	// was executed: their ratio is the average batch.
	Inferences uint64
	Executions uint64
	// Success and Fail are whole requests; Queue is the part of a request that
	// waited for the scheduler. All three include cache hits.
	Success Stat
	Fail    Stat
	Queue   Stat
	// The parts of an execution: preparing inputs, the model itself,
	// extracting outputs. An ensemble's are the sums over its models.
	ComputeInput  Stat
	ComputeInfer  Stat
	ComputeOutput Stat
	CacheHit      Stat
	CacheMiss     Stat
	// Batches has one entry for each batch size that was executed.
	Batches []BatchStatistics
}

// BatchStatistics are the executions with one batch size.
type BatchStatistics struct {
	Size          uint64
	ComputeInput  Stat
	ComputeInfer  Stat
	ComputeOutput Stat
}

// A Stat is a number of events and the time that they took together.
type Stat struct {
	Count uint64
	Total time.Duration
}

// Mean returns the time of one event, 0 if there was none.
func (s Stat) Mean() time.Duration {
	if s.Count == 0 || s.Count > math.MaxInt64 {
		return 0
	}
	return s.Total / time.Duration(s.Count)
}

// Statistics returns those of each loaded version of a model, or of every
// loaded model if model is empty. A model that is not loaded is [ErrNotFound].
func (c *Client) Statistics(ctx context.Context, model string) ([]Statistics, error) {
	answer, err := c.rpc.ModelStatistics(ctx, &pb.ModelStatisticsRequest{Name: model})
	if err != nil {
		if model == "" {
			return nil, c.failure(ctx, "read statistics", "", err)
		}
		failed := c.failure(ctx, "read statistics of model", model, err)
		if failed.Code == codes.InvalidArgument { // Triton's word for a model that is not loaded
			failed.Code = codes.NotFound
		}
		return nil, failed
	}
	out := make([]Statistics, len(answer.GetModelStats()))
	for i, m := range answer.GetModelStats() {
		out[i] = statistics(m)
	}
	return out, nil
}

func statistics(m *pb.ModelStatistics) Statistics {
	infer := m.GetInferenceStats()
	out := Statistics{
		Model:         m.GetName(),
		Version:       m.GetVersion(),
		Inferences:    m.GetInferenceCount(),
		Executions:    m.GetExecutionCount(),
		Success:       stat(infer.GetSuccess()),
		Fail:          stat(infer.GetFail()),
		Queue:         stat(infer.GetQueue()),
		ComputeInput:  stat(infer.GetComputeInput()),
		ComputeInfer:  stat(infer.GetComputeInfer()),
		ComputeOutput: stat(infer.GetComputeOutput()),
		CacheHit:      stat(infer.GetCacheHit()),
		CacheMiss:     stat(infer.GetCacheMiss()),
		Batches:       make([]BatchStatistics, len(m.GetBatchStats())),
	}
	if ms := m.GetLastInference(); ms > 0 {
		out.LastInference = time.UnixMilli(clamp(ms))
	}
	for i, b := range m.GetBatchStats() {
		out.Batches[i] = BatchStatistics{
			Size:          b.GetBatchSize(),
			ComputeInput:  stat(b.GetComputeInput()),
			ComputeInfer:  stat(b.GetComputeInfer()),
			ComputeOutput: stat(b.GetComputeOutput()),
		}
	}
	return out
}

func stat(d *pb.StatisticDuration) Stat {
	return Stat{Count: d.GetCount(), Total: time.Duration(clamp(d.GetNs()))}
}

// clamp keeps a count that no server reaches from turning negative.
func clamp(n uint64) int64 {
	if n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}
