package serving

import (
	"context"
	"time"

	"github.com/dalirun/dalirun/triton"
)

// A Watch judges a server repeatedly.
type Watch struct {
	Probe  Probe
	Every  time.Duration // pause between two probes of a healthy server
	Retry  time.Duration // pause after a probe that failed or could not judge
	InARow int           // how many failed probes in a row end the watch
}

// Wait returns the health of a server once InARow probes in a row failed: a model may recover by itself. A probe that
// could not judge the server does not count. The error is the cause of ctx's end.
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
		pause := w.Retry
		switch {
		case h.OK():
			bad, pause = 0, w.Every
		case h.State != NotJudged:
			bad++
		}
		if bad >= w.InARow {
			return h, nil
		}
		next.Reset(pause)
	}
}
