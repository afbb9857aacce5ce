package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Patient is what is examined: the run of a request on a machine. All fields are required unless their comments say
// otherwise.
type Patient struct {
	Request target.Request // with Exhaustive set
	Probes  target.Probes
	Host    HostProbe
	// Plan returns what a run of a target would do in each step.
	Plan func(context.Context, target.Target) ([]Planned, error)
	// Cache and Workspace are folders. OpenCache opens the cache as a run does.
	Cache, Workspace string
	OpenCache        func() error
	CacheFlags       []string                     // flags that name the cache; empty if dalirun finds it without
	UnusedSteps      func(target.Target) []string // warnings about steps of --force that the run does not have
	CacheDoubt       string                       // why the cache is not where a user would expect it; may be empty
	// SilentCache and SilentWorkspace say that the folders' disks gave no answer already; nil where they did.
	SilentCache, SilentWorkspace error
}

// HostProbe answers what doctor alone asks of this host; Probes.Host answers what a resolution asks too. Its functions
// may hang. All are required.
type HostProbe struct {
	Writable func(path string) error
	Owner    func(path string) (uid int, ok bool)
}

// Planned is what a run would do in a step.
type Planned struct {
	Step         pipeline.ID
	Runs         bool
	ImageMissing bool
	Bytes        int64 // size of its result in the cache, about
}

// Examination is the examination of one patient. What several checks need is found out once, by the first that needs
// it.
type Examination struct {
	Patient

	ctx      context.Context //nolint:containedctx // all checks end with it
	resolved func() resolution
	info     func() (container.Info, error)
	planned  func() ([]Planned, error)
	cache    func() error
}

type resolution struct {
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
	x.resolved = sync.OnceValue(func() resolution {
		t, obstacles, err := target.Resolve(ctx, p.Request, x.Probes)
		return resolution{t, obstacles, err}
	})
	x.planned = sync.OnceValues(x.plan)
	return x
}

// boundedRuntime asks the runtime for its Info once, and waits EngineWithin at most.
type boundedRuntime struct {
	target.RuntimeProbe

	info func() (container.Info, error)
}

// Info implements [target.RuntimeProbe].
func (b boundedRuntime) Info(context.Context) (container.Info, error) { return b.info() }

// boundedHost waits for nvidia-smi for SMIWithin at most.
type boundedHost struct{ target.HostProbe }

// GPUs implements [target.HostProbe].
func (b boundedHost) GPUs(ctx context.Context) (host.GPUs, error) {
	cause := fmt.Errorf("nvidia-smi gave no whole answer within %s; %w", SMIWithin, target.ErrSlow)
	ctx, cancel := context.WithTimeoutCause(ctx, SMIWithin, cause)
	defer cancel()
	return b.HostProbe.GPUs(ctx)
}

// Target returns what the run would be, as far as it is decided.
func (x *Examination) Target() target.Target { return x.resolved().target }

// obstacles returns the obstacles that a check shows.
func (x *Examination) obstacles(check target.CheckID) []target.Obstacle {
	if !slices.Contains(target.Checks(), check) {
		return nil // no obstacle names doctor's own checks: they need not wait for Resolve
	}
	var matching []target.Obstacle
	for _, o := range x.resolved().obstacles {
		if o.Check == check {
			matching = append(matching, o)
		}
	}
	return matching
}

// refused reports whether an obstacle of a check refuses the run.
func (x *Examination) refused(check target.CheckID) bool {
	return target.Refusal(x.obstacles(check)) != nil
}

// meets reports whether a need of a check is met.
func (x *Examination) meets(n Need) bool {
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
	case inspectedImages:
		return x.Target().Source != "" && x.meets(anEngine) && !x.refused(target.CheckRelease) &&
			!x.refused(target.CheckImages)
	case aCache:
		return x.cache() == nil
	default:
		return false
	}
}

// plan returns what a run would do, if it would begin.
func (x *Examination) plan() ([]Planned, error) {
	if x.SilentWorkspace != nil {
		return nil, x.SilentWorkspace
	}
	if err := x.cache(); err != nil {
		return nil, err
	}
	r := x.resolved()
	if r.err != nil {
		return nil, r.err
	}
	if !x.meets(inspectedImages) {
		return nil, errors.New("it is not known what would run")
	}
	return x.Plan(x.ctx, r.target)
}
