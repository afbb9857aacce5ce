package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// reachAgain is how long runs do not try again to reach the weights' host after it gave no answer, so that a machine
// without the network does not wait in each run.
const reachAgain = 10 * time.Minute

// fetchWeights is for a host of weights that does not answer.
const fetchWeights = "check the network or proxy"

// pretrainedAnswer says whether the pretrained weights can be downloaded: err is why not, and noteErr why the cache
// does not remember that.
type pretrainedAnswer struct{ err, noteErr error }

// asksForPretrained reports whether the request needs to know beforehand that the pretrained weights can be downloaded.
func (x *resolution) asksForPretrained() bool {
	return x.request.Weights.Kind == AutoWeights || x.request.Weights.Kind == Pretrained && x.request.Exhaustive
}

func (x *resolution) askPretrained(ctx context.Context) (answer pretrainedAnswer) {
	pretrained := PretrainedWeights(x.target.Recipe).Remote
	if x.probes.Weights.Stored(ctx, pretrained) {
		return pretrainedAnswer{}
	}
	now := x.probes.Clock()
	if since := x.probes.Cache.Unreached(); !x.request.Exhaustive && !since.IsZero() && now.Sub(since) < reachAgain {
		return pretrainedAnswer{err: fmt.Errorf("their host did not answer at %s",
			since.In(now.Location()).Format(time.TimeOnly))}
	}
	err := x.probes.Weights.Reachable(ctx, pretrained)
	if err == nil || ctx.Err() != nil || x.request.Exhaustive {
		return pretrainedAnswer{err: err}
	}
	return pretrainedAnswer{err, x.probes.Cache.NoteUnreached(now)}
}

// decideWeights takes the requested weights; "auto" is the pretrained ones if they can be downloaded, else seeded ones.
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
				Hint: fetchWeights + "; --weights auto falls back to seeded weights",
			})
		}
	case answer.err == nil:
		x.target.Weights = PretrainedWeights(x.target.Recipe)
	default:
		x.target.Weights = WeightsSource{Kind: Random}
		x.doubt(CheckWeights, fmt.Sprintf("the pretrained weights cannot be had: %v",
			errors.Join(answer.err, answer.noteErr)), fetchWeights+"; or have a file of them, with --weights FILE.pth")
	}
}
