package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/steps"
)

// engineWithin bounds the first answer of the container engine; the adapter waits for 2 s on this host.
const engineWithin = 5 * time.Second

// diagnosis is what the checks ask, each thing once and by whoever needs it first.
type diagnosis struct {
	app    *App
	wishes *wishes
	ctx    context.Context //nolint:containedctx // its end is that of all checks

	// The machine; tests have others.
	diskFree func(path string) (uint64, error)
	lookPath func(program string) (string, error)
	root     fs.FS // of the file system, for /proc and /etc

	smi     func() (host.GPUs, error)         // what nvidia-smi says
	store   func() (*store.Store, error)      // the cache
	runtime func() (container.Runtime, error) // the container engine, asked or not
	info    func() (container.Info, error)    // what it says of itself
	lane    func() (laned, error)
	choice  func() (resolved, error) // with NVIDIA's images: the release; none if the server image is to say it
	found   func() (looking, error)  // NVIDIA's images, without pulling them
}

// laned is what the lane came to.
type laned struct {
	resolved

	host   release.Host
	gpus   host.GPUs
	chosen []host.GPU
}

// looking is what came of looking at NVIDIA's images.
type looking struct {
	resolved // with the release as the server image says it

	images looked
}

// newDiagnosis returns a diagnosis that ends with ctx, after doctorWithin, or when end is called.
func (a *App) newDiagnosis(ctx context.Context, w *wishes) (d *diagnosis, end context.CancelFunc) {
	ctx, end = context.WithTimeoutCause(ctx, doctorWithin, fmt.Errorf("no answer within %s", doctorWithin))
	d = &diagnosis{app: a, wishes: w, ctx: ctx, diskFree: host.DiskFree, lookPath: exec.LookPath, root: os.DirFS("/")}
	d.smi = sync.OnceValues(func() (host.GPUs, error) { return host.Probe(ctx, host.Command) })
	d.store = sync.OnceValues(func() (*store.Store, error) { return store.Open(w.cache) })
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

// settle takes lane and release as a run would. What nvidia-smi says is asked for at once: it may take as long as the container engine.
func (d *diagnosis) settle() (laned, error) {
	if d.wishes.accel.value != string(steps.CPU) {
		go d.smi() //nolint:errcheck // for whoever asks again
	}
	info, _ := d.info() // without one, the GPUs are this host's
	r, err := d.app.asked(d.wishes, info)
	if err != nil {
		return laned{}, err
	}
	l := laned{resolved: r}
	l.host, err = resolveLane(d.ctx, d.wishes, info, func(ctx context.Context) (gpus host.GPUs, err error) {
		if info.Remote {
			gpus, err = probeGPUs(info, d.wishes.gpus)(ctx)
		} else {
			gpus, err = d.smi()
		}
		l.gpus = gpus
		return gpus, err
	}, &l.resolved)
	if err != nil {
		return l, err
	}
	if l.Lane == steps.GPU {
		if l.chosen, err = l.gpus.Select(d.wishes.gpus); err != nil {
			return l, err
		}
	}
	l.Images = imageSource(d.wishes, l.Lane)
	return l, nil
}

// choose takes a release by what the host is, without asking for any image.
func (d *diagnosis) choose() (resolved, error) {
	l, err := d.lane()
	if err != nil || l.Images != steps.NGC || l.ServerRef != "" && d.wishes.release == "" {
		return l.resolved, err
	}
	err = pickRelease(d.wishes.release, l.host, &l.resolved)
	return l.resolved, err
}

func (d *diagnosis) look() (looking, error) {
	l, err := d.lane()
	if err != nil {
		return looking{}, err
	}
	info, err := d.info()
	if err != nil {
		return looking{}, err
	}
	runtime, err := d.runtime()
	if err != nil {
		return looking{}, err
	}
	memo, err := d.store()
	if err != nil {
		return looking{}, err
	}
	found := looking{resolved: l.resolved}
	found.images, err = lookNGC(d.ctx, d.wishes, runtime, memo, registry.New(registryWithin).Lookup, info.Arch, l.host, &found.resolved)
	found.Release = found.Release.WithEnv(found.images.server.image.Env)
	return found, err
}
