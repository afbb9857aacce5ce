package target

import (
	"context"
	"errors"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
)

// resolution is a Target while it is being decided.
type resolution struct {
	request Request
	probes  Probes

	target    Target
	obstacles []Obstacle
	pair      inspectedPair
	info      container.Info // what the container engine says of itself
	engineErr error          // why it does not answer
	remote    bool           // it is on another host

	gpus    func() (host.GPUs, error)      // of this host
	engine  func() (container.Info, error) // the container engine
	weights func() pretrainedAnswer        // whether the pretrained ones can be had
}

// Resolve decides what the run of a request that passed [Request.Check] will be, and finds what is in its way: the first
// obstacle that refuses it, or all of an exhaustive request. The error is the cause of ctx's end; a Target with a
// refusal, see [Refusal], is decided as far as it could be.
func Resolve(ctx context.Context, r Request, p Probes) (Target, []Obstacle, error) {
	x := resolution{request: r, probes: p, target: r.target(), remote: p.Runtime.Remote()}
	x.ask(ctx)
	for _, decide := range []func(context.Context){
		x.decideEngine,     // it answers
		x.decideLane,       // the GPU that was asked for or is there, else the CPU
		x.decideSource,     // NVIDIA's images or local ones
		x.decideFlags,      // those that exclude what was asked for
		x.decideGPUAccess,  // programs may use the GPUs, and containers get them
		x.decidePorts,      // those that were named are free
		x.decideRelease,    // of NVIDIA's images, by what this host runs
		x.decideImages,     // they can be had, and fit each other and this host
		x.decideImageRoom,  // they fit where the container engine stores images
		x.decideBaseImage,  // of the local images
		x.decideArithmetic, // precision and batch size
		x.decideWeights,    // pretrained, seeded or a file
		x.doubtUnusedFlags, // those that the run has no use for
	} {
		decide(ctx)
		if ctx.Err() != nil {
			return x.target, x.obstacles, context.Cause(ctx)
		}
		if Refusal(x.obstacles) != nil && !r.Exhaustive {
			break
		}
	}
	return x.target, x.obstacles, nil
}

// target is what the request says by itself.
func (r Request) target() Target {
	return Target{
		Weights: r.Weights, Picture: r.Picture, Precision: r.Precision, MaxBatch: r.MaxBatch,
		Ports: r.ports(), ReadyTimeout: r.ReadyTimeout,
	}
}

// ask has what may take seconds asked once, by whoever needs it first. An exhaustive request needs it all, so it is asked
// side by side; another one may end before.
func (x *resolution) ask(ctx context.Context) {
	x.engine = sync.OnceValues(func() (container.Info, error) { return x.probes.Runtime.Info(ctx) })
	x.gpus = sync.OnceValues(func() (host.GPUs, error) { return x.probes.Host.GPUs(ctx) })
	x.weights = sync.OnceValue(func() pretrainedAnswer { return x.askPretrained(ctx) })
	if !x.request.Exhaustive {
		return
	}
	go x.engine() //nolint:errcheck // whoever needs it gets the error
	if x.request.Accel != string(CPU) && !x.remote {
		go x.gpus() //nolint:errcheck // whoever needs it gets the error
	}
	if x.asksForPretrained() {
		go x.weights()
	}
}

// refuse notes an error as an obstacle; nil is none.
func (x *resolution) refuse(check CheckID, err error) {
	if err != nil {
		x.obstacles = append(x.obstacles, Obstacle{Check: check, Err: err, Remedy: hintOf(err)})
	}
}

// doubt notes what may go otherwise than wished.
func (x *resolution) doubt(check CheckID, text, remedy string) {
	x.obstacles = append(x.obstacles, Obstacle{Check: check, Err: errors.New(text), Remedy: remedy, Doubt: true})
}

// refused says whether a check refuses the run.
func (x *resolution) refused(check CheckID) bool {
	for _, o := range x.obstacles {
		if o.Check == check && !o.Doubt {
			return true
		}
	}
	return false
}

// decideEngine asks the container engine. Before all else, since no flag mends what it lacks.
func (x *resolution) decideEngine(context.Context) {
	x.info, x.engineErr = x.engine()
	x.refuse(CheckEngine, x.engineErr)
}

// decideSource takes the image source that was asked for, or the usual one of the lane.
func (x *resolution) decideSource(context.Context) {
	t := &x.target
	switch {
	case t.Lane == "":
		return
	case x.request.Images != Auto:
		t.Source = Source(x.request.Images)
	case t.Lane == GPU:
		t.Source = NGC
	default:
		t.Source = Local
	}
	if t.Source == Local && t.Lane == GPU {
		x.refuse(CheckImages, usagef("use --images ngc, or --accel cpu",
			"%s is not offered on the gpu lane, which this host has", x.request.Settings.Written("images", x.request.Images)))
	}
}

// decideFlags refuses flags that must not be dropped.
func (x *resolution) decideFlags(context.Context) {
	if x.target.Source != "" {
		_, err := x.request.Situation(x.target.Lane, x.target.Source).Unused()
		x.refuse(CheckFlags, err)
	}
}

// doubtUnusedFlags warns of flags that the run has no use for.
func (x *resolution) doubtUnusedFlags(context.Context) {
	if x.target.Source == "" {
		return
	}
	warnings, _ := x.request.Situation(x.target.Lane, x.target.Source).Unused() // decideFlags has the errors
	for _, text := range warnings {
		x.doubt(CheckFlags, text, "drop what is not used")
	}
}

// decideArithmetic takes the precision of the lane, and the batch size that was asked for or the release's usual one.
func (x *resolution) decideArithmetic(context.Context) {
	t := &x.target
	if t.Lane == CPU {
		t.Precision = release.FP32 // ONNX Runtime computes what is in the ONNX model
	}
	switch {
	case x.request.OptBatch != 0:
		t.OptBatch = x.request.OptBatch
	case t.Release.Tag == tutorialRelease:
		t.OptBatch = 1
	default:
		t.OptBatch = min(usualOptBatch, x.request.MaxBatch)
	}
}

const (
	// tutorialRelease is the release of the tutorial that dalirun replaces; its engine is tuned for single pictures.
	tutorialRelease = "21.07"
	// usualOptBatch is where an H100 reaches four fifths of its throughput (28,553 of 36,082 images/s, trtexec 10.6).
	usualOptBatch = 64
)
