package target

import (
	"context"
	"errors"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// resolution is a Target that is being decided.
type resolution struct {
	request Request
	probes  Probes

	target    Target
	obstacles []Obstacle
	pair      inspectedPair
	info      container.Info // of the container engine
	engineErr error          // why the container engine does not answer
	remote    bool           // the container engine is on another host

	gpus    func() (host.GPUs, error)      // of this host
	engine  func() (container.Info, error) // the container engine
	weights func() pretrainedAnswer        // whether the pretrained weights can be downloaded
}

// Resolve decides what the run of a request will be, and returns the obstacles in its way: up to the first that refuses
// the run, or all for an exhaustive request. The request must have passed [Request.Check]. A Target with a refusal, see
// [Refusal], is decided as far as it could be. The error is the cause of ctx's end.
func Resolve(ctx context.Context, r Request, p Probes) (Target, []Obstacle, error) {
	x := resolution{request: r, probes: p, target: r.target(), remote: p.Runtime.Remote()}
	x.startProbes(ctx)
	for _, decide := range []func(context.Context){
		x.decideEngine,     // the container engine answers
		x.decideFrozen,     // a run that must keep to a lock has one
		x.decideLane,       // the requested lane, else gpu if there is a GPU
		x.decideSource,     // NVIDIA's images or local ones
		x.decideFlags,      // no named flag is excluded by another
		x.decideGPUAccess,  // programs may use the GPUs, and containers get them
		x.decidePorts,      // named ports are free
		x.decideRelease,    // of NVIDIA's images, one that this host can run
		x.decideImages,     // NVIDIA's images can be pulled, and fit each other and this host
		x.decideImageRoom,  // NVIDIA's images fit on the container engine's disk
		x.decideBaseImage,  // of the local images
		x.decideArithmetic, // precision and batch size
		x.decideServing,    // instances, queues and memory of the server
		x.decideWeights,    // pretrained, seeded or a file
		x.decideLock,       // the run is that of its lock
		x.doubtUnusedFlags, // flags that the run has no use for
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

// target returns a Target with the settings that need no decision.
func (r Request) target() Target {
	model, _ := r.recipe() // the request was checked
	weights := r.Weights
	if weights.Kind == Pretrained {
		weights = PretrainedWeights(model)
	}
	return Target{
		Recipe: model, Weights: weights, Picture: r.Picture, Precision: r.Precision, MaxBatch: r.MaxBatch,
		Ports: r.ports(), ReadyTimeout: r.ReadyTimeout,
	}
}

// startProbes prepares the probes that may take seconds, each of which runs once, when it is first needed. For an
// exhaustive request, which needs all, it starts them at the same time; another request may end before it needs one.
func (x *resolution) startProbes(ctx context.Context) {
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

// refuse adds an obstacle with an error that refuses the run, with what to do if it is the container engine's; it adds
// none for a nil error.
func (x *resolution) refuse(check CheckID, err error) {
	if err != nil {
		if fault, ok := remedy.EngineFault(err); ok {
			err = fault
		}
		x.obstacles = append(x.obstacles, Obstacle{Check: check, Err: err, Remedy: pipeline.HintOf(err)})
	}
}

// doubt adds an obstacle that does not refuse the run.
func (x *resolution) doubt(check CheckID, text, remedy string) {
	x.obstacles = append(x.obstacles, Obstacle{Check: check, Err: errors.New(text), Remedy: remedy, Doubt: true})
}

// refused reports whether a check refuses the run.
func (x *resolution) refused(check CheckID) bool {
	for _, o := range x.obstacles {
		if o.Check == check && !o.Doubt {
			return true
		}
	}
	return false
}

// decideEngine refuses a run without a container engine. It comes first, since no flag helps against its lack.
func (x *resolution) decideEngine(context.Context) {
	x.info, x.engineErr = x.engine()
	x.target.Arch = x.info.Arch
	x.refuse(CheckEngine, x.engineErr)
}

// decideSource takes the requested image source, or the lane's usual one that the container engine can have.
func (x *resolution) decideSource(context.Context) {
	t := &x.target
	switch {
	case t.Lane == "":
		return
	case x.request.Images != Auto:
		t.Source = Source(x.request.Images)
	case t.Lane == GPU, x.info.NoBuilder:
		t.Source = NGC
	default:
		t.Source = Local
	}
	if t.Source != Local {
		return
	}
	written := x.request.Settings.Written("images", x.request.Images)
	switch {
	case x.info.NoBuilder: // on either lane
		x.refuse(CheckImages, pipeline.Faultf(pipeline.Environment, "--images ngc runs NVIDIA's, which are pulled",
			"%s: the container engine, %s, builds no images, and the local ones have to be built", written, x.info.Name))
	case t.Lane == GPU:
		x.refuse(CheckImages, pipeline.Usagef("use --images ngc, or --accel cpu",
			"%s is not offered on the gpu lane, which this host has", written))
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

// decideArithmetic takes the precision of the lane, and the requested batch size or the release's usual one.
func (x *resolution) decideArithmetic(context.Context) {
	t := &x.target
	if t.Lane == CPU {
		t.Precision = release.FP32 // ONNX Runtime computes in the precision of the ONNX model
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
	// usualOptBatch is the batch size at which an H100 reaches four fifths of its throughput (28,553 of 36,082
	// images/s, trtexec 10.6).
	usualOptBatch = 64
)
