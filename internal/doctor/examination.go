package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Patient is what is examined: the run that a request would be, on a machine. All fields are required but those that
// say otherwise.
type Patient struct {
	Request target.Request // Exhaustive
	Probes  target.Probes
	Machine Machine
	// Plan says what a run of a target would make.
	Plan func(context.Context, target.Target) ([]Planned, error)
	// Cache and Workspace are folders; OpenCache is what a run does with the former.
	Cache, Workspace string
	OpenCache        func() error
	CacheFlags       []string                     // that name the cache on a command line, unless a plain environment comes to the same one
	UnusedSteps      func(target.Target) []string // warnings of steps of --force that the run does not have
	CacheDoubt       string                       // why the cache is not the one that a user would expect; may be empty
	EngineSettings   EngineSettings
}

// EngineSettings are what of the environment says how the container engine is talked to.
type EngineSettings struct {
	Variables string // "DOCKER_HOST or DOCKER_CONTEXT": those to correct
	NamedBy   string // what names the engine; empty for the usual one
	Version   string // the variable that sets the version of its API; empty if none does
}

// Machine is what is asked of the disks of this host; tests have others.
type Machine struct {
	DiskFree func(path string) (bytes uint64, err error)
	Writable func(path string) error
	Owner    func(path string) (uid int, ok bool)
}

// Planned is what a run would make in a step.
type Planned struct {
	Step         pipeline.ID
	Runs         bool
	ImageMissing bool
	Bytes        int64 // that its result takes in the cache, about
}

// Examination is one of a patient. What several checks rest on is found out once, by whoever needs it first.
type Examination struct {
	Patient

	ctx      context.Context //nolint:containedctx // its end is that of all checks
	resolved func() resolved
	info     func() (container.Info, error)
	planned  func() ([]Planned, error)
	cache    func() error
}

type resolved struct {
	target    target.Target
	obstacles []target.Obstacle
	err       error
}

func newExamination(ctx context.Context, p Patient) *Examination {
	x := &Examination{Patient: p, ctx: ctx}
	x.cache = sync.OnceValue(p.OpenCache)
	x.info = sync.OnceValues(func() (container.Info, error) {
		cause := fmt.Errorf("the container engine gave no answer within %s", EngineWithin)
		limited, cancel := context.WithTimeoutCause(ctx, EngineWithin, cause)
		defer cancel()
		return p.Probes.Runtime.Info(limited)
	})
	x.Probes.Runtime = boundedRuntime{p.Probes.Runtime, x.info}
	x.Probes.Host = boundedHost{p.Probes.Host}
	x.resolved = sync.OnceValue(func() resolved {
		t, obstacles, err := target.Resolve(ctx, p.Request, x.Probes)
		return resolved{t, obstacles, err}
	})
	x.planned = sync.OnceValues(x.plan)
	return x
}

// boundedRuntime is asked once what it is, for as long as doctor can wait.
type boundedRuntime struct {
	target.RuntimeProbe

	info func() (container.Info, error)
}

// Info is of [target.RuntimeProbe].
func (b boundedRuntime) Info(context.Context) (container.Info, error) { return b.info() }

// boundedHost waits for nvidia-smi as long as doctor can.
type boundedHost struct{ target.HostProbe }

// GPUs is of [target.HostProbe].
func (b boundedHost) GPUs(ctx context.Context) (host.GPUs, error) {
	cause := fmt.Errorf("nvidia-smi gave no whole answer within %s; %w", SMIWithin, target.ErrSlow)
	ctx, cancel := context.WithTimeoutCause(ctx, SMIWithin, cause)
	defer cancel()
	return b.HostProbe.GPUs(ctx)
}

// Target is what the run would be, as far as it is decided.
func (x *Examination) Target() target.Target { return x.resolved().target }

// Info is what the container engine says of itself.
func (x *Examination) Info() (container.Info, error) { return x.info() }

// obstacles are those that a check shows.
func (x *Examination) obstacles(check target.CheckID) []target.Obstacle {
	switch check {
	case checkPlatform, checkGPUMemory, checkCacheDisk, checkWorkspaceDisk:
		return nil // without waiting for what the others rest on
	}
	var own []target.Obstacle
	for _, o := range x.resolved().obstacles {
		if o.Check == check {
			own = append(own, o)
		}
	}
	return own
}

// refused says whether an obstacle of a check refuses the run.
func (x *Examination) refused(check target.CheckID) bool {
	return target.Refusal(x.obstacles(check)) != nil
}

// has says whether there is what a check needs.
func (x *Examination) has(n Need) bool {
	switch n {
	case anEngine:
		_, err := x.info()
		return err == nil
	case aLane:
		return x.Target().Lane != ""
	case aGPU:
		return x.Target().Lane == target.GPU
	case ngc:
		return x.Target().Source == target.NGC
	case images:
		return x.Target().Source != "" && x.has(anEngine) && !x.refused(target.CheckRelease) && !x.refused(target.CheckImages)
	case aCache:
		return x.cache() == nil
	default:
		return false
	}
}

// plan finds out what a run would make, if it would begin.
func (x *Examination) plan() ([]Planned, error) {
	if err := x.cache(); err != nil {
		return nil, err
	}
	r := x.resolved()
	if r.err != nil {
		return nil, r.err
	}
	if !x.has(images) {
		return nil, errors.New("it is not known what would run")
	}
	return x.Plan(x.ctx, r.target)
}
