package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// reachAgain is for how long a run takes a "no" of the weights' host for an answer, so that one without the network does
// not wait each time.
const reachAgain = 10 * time.Minute

// pretrainedAnswer is whether the pretrained weights can be had: an error is why not.
type pretrainedAnswer struct{ err, noteErr error }

// asksForPretrained says whether it is to be found out beforehand.
func (x *resolution) asksForPretrained() bool {
	return x.request.Weights.Kind == AutoWeights || x.request.Weights.Kind == Pretrained && x.request.Exhaustive
}

func (x *resolution) askPretrained(ctx context.Context) (answer pretrainedAnswer) {
	if x.probes.Weights.Stored(ctx) {
		return pretrainedAnswer{}
	}
	now := x.probes.Clock()
	if since := x.probes.Cache.Unreached(); !x.request.Exhaustive && !since.IsZero() && now.Sub(since) < reachAgain {
		return pretrainedAnswer{err: fmt.Errorf("their host did not answer at %s", since.In(now.Location()).Format(time.TimeOnly))}
	}
	err := x.probes.Weights.Reachable(ctx)
	if err == nil || ctx.Err() != nil || x.request.Exhaustive {
		return pretrainedAnswer{err: err}
	}
	return pretrainedAnswer{err, x.probes.Cache.NoteUnreached(now)}
}

// decideWeights takes the weights that were asked for; "auto" is the pretrained ones if they can be had, else seeded ones.
func (x *resolution) decideWeights(context.Context) {
	if !x.asksForPretrained() {
		return
	}
	answer := x.weights()
	switch {
	case x.request.Weights.Kind == Pretrained:
		if answer.err != nil {
			x.refuse(CheckWeights, &pipeline.Fault{
				Kind: pipeline.Environment, Err: answer.err,
				Hint: "check the network or proxy; --weights auto falls back to seeded weights",
			})
		}
	case answer.err == nil:
		x.target.Weights = TorchvisionWeights()
	default:
		x.target.Weights = WeightsSource{Kind: Random}
		x.doubt(CheckWeights, fmt.Sprintf("the pretrained weights cannot be had: %v", errors.Join(answer.err, answer.noteErr)), "")
	}
}
