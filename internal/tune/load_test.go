package tune_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tune"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// The rate of a server is what its only instance can do, whichever batches it puts together, and latencies are those at
// half of it.
func TestLoaded(t *testing.T) {
	t.Parallel()
	const each = 20 * time.Millisecond // of a picture
	for _, preferred := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			server := tritontest.NewInMemory(t, tritontest.Staged("ensemble", tritontest.Stage{
				Name: "only", Instances: 1, MaxBatch: preferred,
				Time: func(pictures int) time.Duration { return time.Duration(pictures) * each },
			})...)
			server.MustLoad("ensemble")
			stops := 0
			stop := func(context.Context) error { stops++; return nil }
			load := tune.NewLoad(tune.Latency, "ensemble", target.CPU, 5*time.Minute)
			s, err := tune.Connect(t.Context(), server, load, []byte("picture"), stop)
			if err != nil {
				t.Fatal(err)
			}
			if load, err = load.Half(t.Context(), s); err != nil || load.Rate < 23 || load.Rate > 25.5 {
				t.Errorf("batches of %d: half is %v requests/s, %v; want some 25", preferred, load.Rate, err)
			}
			s.Use(load)
			f, err := s.Measure(t.Context(), 1)
			if err != nil || f.P50Seconds < each.Seconds() || f.P50Seconds > 4*each.Seconds() {
				t.Errorf("batches of %d: %+v, %v", preferred, f, err)
			}
			server.Intercept(func(context.Context, string, string) error { return errors.New("out of memory") })
			if _, err = s.Measure(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "requests failed, the first with") {
				t.Errorf("a server that fails: %v", err)
			}
			if err := s.Stop(t.Context()); err != nil || stops != 1 {
				t.Errorf("%v, stopped %d times", err, stops)
			}
			if _, err := tune.Connect(t.Context(), server, load, []byte("picture"), stop); err == nil || stops != 2 {
				t.Errorf("a server that fails is not left: %v, stopped %d times", err, stops)
			}
		})
	}
}
