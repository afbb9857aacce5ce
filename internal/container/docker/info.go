package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

// facts are the properties of the engine that the translation of a Spec depends on.
type facts struct {
	info     container.Info
	selinux  bool
	networks []string // IDs of the engine's networks that this process is in, if it is a container of the engine
}

// errNoReply is the cause of a request that took too long.
var errNoReply = errors.New("no reply")

// Info describes the engine.
func (r *Runtime) Info(ctx context.Context) (container.Info, error) {
	f, err := r.requestFacts(ctx)
	return f.info, err
}

// facts returns the facts of the last Info, or requests them.
func (r *Runtime) facts(ctx context.Context) (facts, error) {
	if f, ok := r.remembered(); ok {
		return f, nil
	}
	return r.requestFacts(ctx)
}

func (r *Runtime) remembered() (facts, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastFacts == nil {
		return facts{}, false
	}
	return *r.lastFacts, true
}

func (r *Runtime) requestFacts(ctx context.Context) (facts, error) {
	limited, cancel, err := r.limitInfo(ctx)
	if err != nil {
		return facts{}, err
	}
	defer cancel()
	version, err := r.api.ServerVersion(limited)
	if err != nil {
		return facts{}, r.unavailable(limited, err)
	}
	info, err := r.api.Info(limited)
	if err != nil {
		return facts{}, r.unavailable(limited, err)
	}
	f := understand(version, info)
	f.info.Endpoint, f.info.Remote = r.endpoint, r.remote
	f.info.APIVersion = r.api.ClientVersion()
	if r.options.Env(client.EnvOverrideAPIVersion) != "" {
		f.info.APISetting = client.EnvOverrideAPIVersion
	}
	at := r.findStandpoint(limited, f.info.Rootless)
	f.info.OtherLoopback, f.info.Job, f.networks = at.otherLoopback, at.job, at.networks
	r.mu.Lock()
	r.lastFacts = &f
	r.mu.Unlock()
	return f, nil
}

// limitInfo bounds the requests of Info, by what answers a ping.
func (r *Runtime) limitInfo(ctx context.Context) (context.Context, context.CancelFunc, error) {
	within := func(limit time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %s", errNoReply, limit))
	}
	limited, cancel := within(r.infoLimit)
	ping, err := r.api.Ping(limited)
	if err != nil {
		defer cancel()
		return nil, nil, r.unavailable(limited, err)
	}
	if ping.OSType != "" || r.infoLimit >= podmanInfo { // Podman does not say which system it runs on
		return limited, cancel, nil
	}
	cancel()
	limited, cancel = within(podmanInfo)
	return limited, cancel, nil
}

// understand reads the engine's two answers. Podman's lack some fields.
func understand(version types.Version, info system.Info) facts {
	f := facts{info: container.Info{
		Name: "Docker Engine", Version: version.Version, Arch: version.Arch,
		CPUs: info.NCPU, Memory: info.MemTotal, RootDir: info.DockerRootDir, ImageDir: imageDir(info),
		Runtimes: slices.Sorted(maps.Keys(info.Runtimes)),
	}}
	for _, component := range version.Components {
		if component.Name == container.PodmanEngine {
			f.info.Name, f.info.Version = component.Name, component.Version
		}
	}
	for _, option := range info.SecurityOptions {
		name, _, _ := strings.Cut(strings.TrimPrefix(option, "name="), ",")
		f.info.Rootless = f.info.Rootless || name == "rootless"
		f.selinux = f.selinux || name == "selinux"
	}
	for _, device := range info.DiscoveredDevices {
		if _, ok := cdi.Name(device.ID); ok && device.Source == "cdi" {
			f.info.CDIDevices = append(f.info.CDIDevices, device.ID)
		}
	}
	return f
}

// imageDir returns the engine's folder of images. It is empty if containerd keeps the images, in a folder of its own
// that the engine does not name (by default /var/lib/containerd). New engines do so from 29 on, and then report
// ["driver-type", "io.containerd.snapshotter.v1"] in place of the driver's status:
// https://docs.docker.com/engine/storage/containerd.
func imageDir(info system.Info) string {
	for _, status := range info.DriverStatus {
		if status[0] == "driver-type" && strings.HasPrefix(status[1], "io.containerd.snapshotter.") {
			return ""
		}
	}
	return info.DockerRootDir
}
