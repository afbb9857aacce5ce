package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const (
	// reachWithin is how long --weights auto waits for the host of the pretrained weights to answer.
	reachWithin = 3 * time.Second
	// reachAgain is for how long it takes a "no" for an answer.
	reachAgain = 10 * time.Minute
	// unreached is the key under which the cache remembers the "no".
	unreached = "pretrained weights cannot be had since"
	// labelsMeanNothing is what seeded weights come to, for people.
	labelsMeanNothing = "labels mean nothing"
)

// resolveWeights settles --weights, and warns for good if they are not the real ones.
func (x *session) resolveWeights(ctx context.Context) {
	source, missing, _ := x.wishes.takeWeights(ctx, x.store, remembered(x.store)) // --weights was checked before
	if missing != nil {
		x.warn(fmt.Sprintf("the pretrained weights cannot be had: %v", missing))
	}
	x.options.Weights = source
	if source.Kind == steps.Random {
		x.warn("seeded random weights are used: the comparison with PyTorch holds, but " + labelsMeanNothing)
	}
}

// takeWeights takes the weights that --weights names, and for "auto" the pretrained ones if they are in the cache or reach says that they can be
// fetched. missing is why "auto" came to seeded ones.
func (w *wishes) takeWeights(ctx context.Context, cache *store.Store, reach func(context.Context) error) (source steps.WeightsSource, missing, err error) {
	source, auto, err := w.weightsSource()
	if err != nil || !auto {
		return source, nil, err
	}
	if missing = pretrained(ctx, cache, reach); missing == nil {
		source = steps.TorchvisionWeights()
	}
	return source, missing, nil
}

// pretrained returns nil if the pretrained weights are in the cache, or reach says that they can be fetched.
func pretrained(ctx context.Context, cache *store.Store, reach func(context.Context) error) error {
	plan, err := (&pipeline.Runner{Store: cache}).Plan(ctx, []pipeline.Step{steps.NewPretrainedWeights(fetcher{}, steps.TorchvisionWeights().Remote)})
	if err == nil && plan[0].Verdict.Kind == pipeline.WillReuse {
		return nil
	}
	return reach(ctx)
}

// reachable asks the host of the pretrained weights.
func reachable(ctx context.Context) error {
	return fetcher{}.reachable(ctx, steps.TorchvisionWeights().Remote.URL, reachWithin)
}

// remembered is reachable that takes a "no" of the last minutes for an answer, so that a run without the network does
// not wait each time.
func remembered(cache *store.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		if since, ok := cache.Recall(unreached); ok {
			if at, err := time.Parse(time.RFC3339, since); err == nil && time.Since(at) < reachAgain {
				return fmt.Errorf("their host did not answer at %s", at.Local().Format(time.TimeOnly)) //nolint:gosmopolitan // for a person
			}
		}
		err := reachable(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		return errors.Join(err, cache.Remember(unreached, time.Now().UTC().Format(time.RFC3339)))
	}
}
