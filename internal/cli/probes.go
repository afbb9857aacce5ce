package cli

import (
	"context"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/fetch"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// registryWithin bounds all that one resolution asks of registries. Three requests and a token take a second over a
// slow line, and both images are asked for at once.
const registryWithin = 3 * time.Second

const (
	// pinWithin bounds what a lock asks of registries: no run waits for it.
	pinWithin = 15 * time.Second
	// goneWithin bounds the questions after a failed pull, one for each layer.
	goneWithin = 15 * time.Second
)

// probes are whom a resolution asks: this host, a container engine, the registries as a pull would, and the cache, if
// it can be opened.
func (a *App) probes(runtime container.Runtime, open func() (*store.Store, error)) target.Probes {
	engine := &engineProbe{Runtime: runtime}
	cache := steps.CacheProbe{Open: func() (steps.Cache, error) { return open() }}
	return target.Probes{
		Host: a.system(), Runtime: engine, Clock: time.Now,
		Program: steps.ProgramProbe{Images: engine, Cache: cache},
		Cache:   cache, Weights: steps.WeightsProbe{Cache: cache, Fetcher: fetch.Fetcher{}},
		Registry: registryProbe{sync.OnceValue(func() *registry.Client {
			// It answered: else nothing is looked up.
			return registries(runtime, engine.info, registryWithin)
		})},
	}
}

// registries asks registries as a pull of the container engine that info describes would, for a while.
func registries(runtime container.Runtime, info container.Info, within time.Duration) *registry.Client {
	return registry.New(registry.Options{
		Login: runtime.Login, Within: within, Elsewhere: info.Remote || info.Podman(),
	})
}

// system is this host.
func (a *App) system() host.System {
	system := host.Here() //nolint:forbidigo // this is the one place
	if a.root != nil {
		system.Root = a.root
	}
	return system
}

// engineProbe is a [target.RuntimeProbe] that is asked once what it is.
type engineProbe struct {
	container.Runtime

	once sync.Once
	info container.Info
	err  error
}

// Info is what the container engine says of itself.
func (e *engineProbe) Info(ctx context.Context) (container.Info, error) {
	e.once.Do(func() { e.info, e.err = e.Runtime.Info(ctx) })
	return e.info, e.err
}

// registryProbe is a [target.RegistryProbe] with the credentials of a pull. Podman and an engine on another host have
// others.
type registryProbe struct{ client func() *registry.Client }

// Lookup finds an image in its registry.
func (r registryProbe) Lookup(ctx context.Context, ref, arch string) (registry.Image, error) {
	return r.client().Lookup(ctx, ref, arch)
}
