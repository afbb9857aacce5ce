package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/pipeline"
)

// GPUTurn has one job at a time build or measure on GPUs of this host: what two of them measure at once is wrong for
// both.
type GPUTurn struct {
	Leases host.Leases
	GPUs   []host.GPU
	Me     host.Holder   // but for what it does
	Wait   time.Duration // for all GPUs together; 0 is none
	// Clear removes what a job has left on the GPUs that was killed while it was its turn. Nil where nothing can be left.
	Clear func(context.Context)
}

// Take waits until no other job builds or measures on the GPUs, and tells of whom it waits for. Nobody else does then
// until release is called, or this process ends. doing says what is to be done, as in "builds an engine".
//
// A GPU that is not free in time is a fault of [pipeline.Environment]. A GPU that can have no lease is a warning and
// stops nothing. A nil GPUTurn is everybody's at once.
func (g *GPUTurn) Take(
	ctx context.Context, doing string, emit func(pipeline.Payload),
) (release func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	me, waits, began := g.Me, false, time.Now()
	me.Doing = doing
	lease, err := g.Leases.Take(ctx, g.GPUs, me, g.Wait, host.LeaseObserver{
		Busy: func(gpu host.GPU, holder host.Holder) {
			text := fmt.Sprintf("waits for %s, on which %s; for %s at most", gpu.Title(), holder, g.Wait)
			if waits { // the next in turn is no news
				emit(pipeline.Progress{Text: text})
				return
			}
			waits = true
			emit(pipeline.Warning{Text: text})
		},
		Unguarded: func(gpu host.GPU, err error) {
			emit(pipeline.Warning{Text: fmt.Sprintf(
				"%s has no lease, and another job may build or measure on it at the same time: %v", gpu.Title(), err)})
		},
	})
	if _, ok := errors.AsType[*host.BusyError](err); ok {
		return nil, &pipeline.Fault{
			Kind: pipeline.Environment, Err: err,
			Hint: "wait longer with --gpu-wait, take another GPU, or end that process if it hangs",
		}
	}
	if err != nil {
		return nil, err
	}
	if waits {
		emit(pipeline.Line{Text: "it is this job's turn, after " + time.Since(began).Round(time.Second).String()})
	}
	if lease.Abandoned && g.Clear != nil {
		g.Clear(ctx)
	}
	return lease.Release, nil
}
