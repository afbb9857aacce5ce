package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/steps"
)

const (
	// engineWithin bounds the first answer of the container engine; the adapter waits for 2 s on this host.
	engineWithin = 5 * time.Second
	// smiWithin bounds nvidia-smi, which a run lets answer for longer: with persistence mode off each of several calls may take seconds.
	smiWithin = 6 * time.Second
)

// errSlowSMI is the cause of an answer of nvidia-smi that a run would have waited for.
var errSlowSMI = fmt.Errorf("nvidia-smi gave no whole answer within %s; a run waits longer", smiWithin)

// diagnosis is what the checks ask, each thing once and by whoever needs it first.
type diagnosis struct {
	app    *App
	wishes *wishes
	ctx    context.Context //nolint:containedctx // its end is that of all checks

	// The machine; tests have others.
	diskFree func(path string) (uint64, error)
	on       thisHost

	store   func() (*store.Store, error)      // the cache
	runtime func() (container.Runtime, error) // the container engine, asked or not
	info    func() (container.Info, error)    // what it says of itself
	lane    func() (laned, error)             // the error is also that of a lane that cannot be had
	choice  func() (pick, error)              // with NVIDIA's images: the release; none if a server image is named, which says it
	found   func() (resolved, error)          // the images, without pulling them
}

// newDiagnosis returns a diagnosis that ends with ctx, after doctorWithin, or when end is called.
func (a *App) newDiagnosis(ctx context.Context, w *wishes) (d *diagnosis, end context.CancelFunc) {
	ctx, end = context.WithTimeoutCause(ctx, doctorWithin, fmt.Errorf("no answer within %s", doctorWithin))
	d = &diagnosis{app: a, wishes: w, ctx: ctx, diskFree: host.DiskFree, on: a.here()}
	d.store = sync.OnceValues(w.open)
	d.runtime = sync.OnceValues(func() (container.Runtime, error) { return a.runtime(nil) })
	d.info = sync.OnceValues(d.askEngine)
	d.lane = sync.OnceValues(d.settle)
	d.choice = sync.OnceValues(d.choose)
	d.found = sync.OnceValues(d.look)
	return d, end
}

func (d *diagnosis) askEngine() (container.Info, error) {
	runtime, err := d.runtime()
	if err != nil {
		return container.Info{}, err
	}
	ctx, cancel := context.WithTimeoutCause(d.ctx, engineWithin, fmt.Errorf("the container engine gave no answer within %s", engineWithin))
	defer cancel()
	return runtime.Info(ctx)
}

// settle takes the lane as a run does. nvidia-smi, which may take long, is asked beside a container engine of this host; one on another host
// has other GPUs.
func (d *diagnosis) settle() (laned, error) {
	smi := sync.OnceValues(func() (host.GPUs, error) {
		ctx, cancel := context.WithTimeoutCause(d.ctx, smiWithin, errSlowSMI)
		defer cancel()
		return d.on.smi(ctx)
	})
	runtime, err := d.runtime()
	remote := err == nil && isRemote(runtime)
	if !remote && d.wishes.accel.value != string(steps.CPU) {
		go smi() //nolint:errcheck // for whoever asks again
	}
	on := d.on
	on.smi = func(context.Context) (host.GPUs, error) { return smi() }
	info, infoErr := d.info()
	if remote && infoErr != nil {
		return laned{}, infoErr // nothing is known of its GPUs
	}
	l, err := d.app.settleLane(d.ctx, d.wishes, info, on)
	if err != nil {
		return l, err
	}
	unknown := func(checks ...string) {
		l.refused = slices.DeleteFunc(l.refused, func(o obstacle) bool { return slices.Contains(checks, o.check) })
	}
	if infoErr != nil {
		unknown(checkContainerGPU)
	}
	if errors.Is(l.err, errSlowSMI) || errors.Is(l.noGPU, errSlowSMI) {
		unknown(checkGPU, checkImages)
		l.err = errSlowSMI
	}
	return l, l.err
}

// isRemote says whether a container engine is on another host, if it can be told before it answers.
func isRemote(r container.Runtime) bool {
	told, ok := r.(interface{ Remote() bool })
	return ok && told.Remote()
}

// refusal is why a run would not begin, if a check is to show that.
func (d *diagnosis) refusal(check string) error {
	l, _ := d.lane() // its error is among them
	for _, r := range l.refused {
		if r.check == check {
			return r.err
		}
	}
	return nil
}

// pick is a release, and what is not known of it.
type pick struct {
	release.Release

	doubts []string
}

// choose takes a release by what the host is, without asking for any image.
func (d *diagnosis) choose() (p pick, err error) {
	l, err := d.lane()
	if err != nil || l.Images != steps.NGC || l.ServerRef != "" {
		return pick{}, err
	}
	p.Release, p.doubts, err = pickRelease(d.wishes.release, l.Lane, l.host)
	return p, err
}

// look finds the images as a run does.
func (d *diagnosis) look() (resolved, error) {
	l, err := d.lane()
	if err != nil {
		return resolved{}, err
	}
	info, err := d.info()
	if err != nil {
		return resolved{}, err
	}
	runtime, err := d.runtime()
	if err != nil {
		return resolved{}, err
	}
	memo, err := d.store()
	if err != nil {
		return resolved{}, err
	}
	return l.settleImages(d.ctx, d.wishes, runtime, memo, info)
}
