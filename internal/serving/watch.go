package serving

import (
	"context"
	"time"

	"github.com/dalirun/dalirun/triton"
)

// A Watch asks a server again and again.
type Watch struct {
	Probe  Probe
	Every  time.Duration // between two questions while all is well
	Again  time.Duration // after an answer that was not, before the next question
	InARow int           // how many such answers end the watch
}

// Wait returns the health of a server that was found not to work InARow times on end: a model that comes back by itself is
// well. It returns the cause of ctx when that ends first.
func (w Watch) Wait(ctx context.Context, host triton.Host) (Health, error) {
	next := time.NewTimer(w.Every)
	defer next.Stop()
	for bad := 0; ; {
		select {
		case <-next.C:
		case <-ctx.Done():
			return Health{}, context.Cause(ctx)
		}
		h, err := w.Probe.Judge(ctx, host)
		if err != nil {
			return Health{}, err
		}
		if h.OK() {
			bad = 0
			next.Reset(w.Every)
			continue
		}
		if bad++; bad >= w.InARow {
			return h, nil
		}
		next.Reset(w.Again)
	}
}
