package cli

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/fetch"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const (
	// registryWithin bounds all that one resolution asks of registries. Three requests and a token take a second over a
	// slow line, and both images are asked for at once.
	registryWithin = 3 * time.Second
	// reachWithin is how long the host of the pretrained weights may take to answer.
	reachWithin = 3 * time.Second
	// diskWithin is how long a disk may take to say what is free: that of a network may hang.
	diskWithin = 2 * time.Second
	// unreached is the key under which the cache remembers that the weights' host gave no answer.
	unreached = "pretrained weights cannot be had since"
)

// probes are whom a resolution asks: this host, a container engine, the registries as a pull would, and the cache, if
// it can be opened.
func (a *App) probes(runtime container.Runtime, open func() (*store.Store, error)) target.Probes {
	engine := &engineProbe{Runtime: runtime}
	cache := cacheProbe{open}
	return target.Probes{
		Host: a.hostProbe(), Runtime: engine, Cache: cache, Weights: weightsProbe{cache}, Clock: time.Now,
		Registry: registryProbe{sync.OnceValue(func() *registry.Client {
			info := engine.info // which answered: else nothing is looked up
			return registry.New(registry.Options{
				Login: runtime.Login, Within: registryWithin, Elsewhere: info.Remote || info.Podman(),
			})
		})},
	}
}

// hostProbe is a [target.HostProbe] of this host.
type hostProbe struct {
	root     fs.FS // of the file system
	command  host.Runner
	lookPath func(program string) (string, error)
}

func (a *App) hostProbe() hostProbe {
	root := a.root
	if root == nil {
		root = os.DirFS("/")
	}
	return hostProbe{root: root, command: host.Command, lookPath: exec.LookPath}
}

// GPUs asks nvidia-smi.
func (h hostProbe) GPUs(ctx context.Context) (host.GPUs, error) { return host.Probe(ctx, h.command) }

// Kernel reads /proc/version.
func (h hostProbe) Kernel() string {
	proc, err := fs.Sub(h.root, "proc")
	if err != nil {
		return ""
	}
	return host.Kernel(proc)
}

// ToolkitHook looks where a container engine would. Its PATH is not known: it is ours where somebody started it by hand,
// and systemd's for a service.
func (h hostProbe) ToolkitHook() string {
	if found, err := h.lookPath(target.ToolkitHook); err == nil {
		return found
	}
	for _, dir := range []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"} {
		name := path.Join(dir, target.ToolkitHook)
		about, err := fs.Stat(h.root, name)
		if err == nil && about.Mode().IsRegular() && about.Mode()&0o111 != 0 {
			return "/" + name
		}
	}
	return ""
}

// CDISpec looks into the folders that CDI names.
func (h hostProbe) CDISpec() string {
	for _, pattern := range []string{"etc/cdi/*", "var/run/cdi/*"} {
		files, _ := fs.Glob(h.root, pattern) // the patterns are well formed
		for _, name := range files {
			if data, err := fs.ReadFile(h.root, name); err == nil && strings.Contains(string(data), cdi.Kind) {
				return "/" + name
			}
		}
	}
	return ""
}

// PortFree tries the port.
func (hostProbe) PortFree(ctx context.Context, at netip.AddrPort) (bool, error) {
	return host.IsPortFree(ctx, at)
}

// PortUser looks at every process.
func (hostProbe) PortUser(port uint16) string {
	user, _ := host.PortUser(os.DirFS("/proc"), port)
	return user
}

// DiskFree waits for diskWithin.
func (hostProbe) DiskFree(ctx context.Context, folder string) (uint64, error) {
	cause := fmt.Errorf("the disk of %s gave no answer within %s", folder, diskWithin)
	ctx, cancel := context.WithTimeoutCause(ctx, diskWithin, cause)
	defer cancel()
	return bounded.Call(ctx, func() (uint64, error) {
		if _, err := os.Stat(folder); err != nil {
			return 0, err
		}
		return host.DiskFree(folder)
	})
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

// Remote says whether it is on another host, if it can be told before it answers.
func (e *engineProbe) Remote() bool {
	elsewhere, ok := e.Runtime.(interface{ Remote() bool })
	return ok && elsewhere.Remote()
}

// registryProbe is a [target.RegistryProbe] with the credentials of a pull. Podman and an engine on another host have
// others.
type registryProbe struct{ client func() *registry.Client }

// Lookup finds an image in its registry.
func (r registryProbe) Lookup(ctx context.Context, ref, arch string) (registry.Image, error) {
	return r.client().Lookup(ctx, ref, arch)
}

// cacheProbe is a [target.CacheProbe] of a cache. One that cannot be opened remembers nothing.
type cacheProbe struct{ open func() (*store.Store, error) }

// RememberedImage is what image steps noted.
func (c cacheProbe) RememberedImage(ref string) (id string, env map[string]string, ok bool) {
	cache, err := c.open()
	if err != nil {
		return "", nil, false
	}
	return steps.RecallImage(cache, ref)
}

// Unreached is what NoteUnreached noted.
func (c cacheProbe) Unreached() time.Time {
	cache, err := c.open()
	if err != nil {
		return time.Time{}
	}
	since, ok := cache.Recall(unreached)
	if !ok {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return time.Time{}
	}
	return at
}

// NoteUnreached is for the runs that come.
func (c cacheProbe) NoteUnreached(at time.Time) error {
	cache, err := c.open()
	if err != nil {
		return err
	}
	return cache.Remember(unreached, at.UTC().Format(time.RFC3339))
}

// weightsProbe is a [target.WeightsProbe].
type weightsProbe struct{ cacheProbe }

// Stored plans the step that makes them.
func (w weightsProbe) Stored(ctx context.Context) bool {
	cache, err := w.open()
	if err != nil {
		return false
	}
	step := steps.NewPretrainedWeights(fetch.Fetcher{}, target.TorchvisionWeights().Remote)
	plan, err := (&pipeline.Runner{Store: cache}).Plan(ctx, []pipeline.Step{step})
	return err == nil && plan[0].Verdict.Kind == pipeline.WillReuse
}

// Reachable asks their host.
func (weightsProbe) Reachable(ctx context.Context) error {
	return fetch.Fetcher{}.Reachable(ctx, target.TorchvisionWeights().Remote.URL, reachWithin)
}
