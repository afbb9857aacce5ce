package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

// engine asks the container engine what it is.
func (d *diagnosis) engine(context.Context) finding {
	info, err := d.info()
	if errors.Is(err, container.ErrSettings) {
		return failed(err, "correct or unset "+d.app.dockerSettings())
	}
	if errors.Is(err, container.ErrPermission) {
		return failed(err, "") // it says what to do, and it runs
	}
	if name := d.namedBy(); err != nil && name != "" {
		return failed(err, "start the one there, or name another one: this one is named by "+name)
	}
	if err != nil {
		return failed(err, "start it: `sudo systemctl start docker`, or `sudo dockerd` where there is no systemd; on Debian and Ubuntu `sudo apt-get install docker.io` installs one")
	}
	if err := unserved(info); err != nil {
		return finding{Status: statusWarn, Saw: err.Error(), Remedy: hintOf(err, "")}
	}
	negotiated := ""
	if d.app.env("DOCKER_API_VERSION") != "" {
		negotiated = ", by DOCKER_API_VERSION"
	}
	return finding{Status: statusOK, Saw: fmt.Sprintf("%s %s (API %s%s) at %s", info.Name, info.Version, info.APIVersion, negotiated, info.Endpoint)}
}

// namedBy is what names the container engine that is talked to; empty for the usual one.
func (d *diagnosis) namedBy() string {
	runtime, err := d.runtime()
	if err != nil {
		return ""
	}
	if named, ok := runtime.(interface{ NamedBy() string }); ok {
		return named.NamedBy()
	}
	return ""
}

// platform says which system this is. WSL needs care, which a run takes by itself.
func (d *diagnosis) platform(context.Context) finding {
	here := runtime.GOOS + "/" + runtime.GOARCH
	proc, err := fs.Sub(d.on.root, "proc")
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	switch kernel := host.Kernel(proc); {
	case host.WSL1(kernel):
		return finding{
			Status: statusWarn, Saw: here + " on WSL 1, which has no GPU and runs no container engine of its own",
			Remedy: "in PowerShell `wsl --set-version DISTRIBUTION 2`",
		}
	case host.WSL(kernel):
		return finding{Status: statusOK, Saw: here + " on WSL 2: its driver has no whole NVML, so DALI_DISABLE_NVML=1 is set in containers"}
	default:
		return finding{Status: statusOK, Saw: here}
	}
}

// ports tells of those that are taken. One that was named is refused.
func (d *diagnosis) ports(ctx context.Context) finding {
	info, infoErr := d.info()
	if info.Remote {
		return finding{}
	}
	taken, err := takenPorts(ctx, info,
		port(d.wishes.http, triton.PortHTTP), port(d.wishes.grpc, triton.PortGRPC), port(d.wishes.metrics, triton.PortMetrics))
	switch {
	case err != nil:
		return finding{Status: statusWarn, Saw: err.Error(), Remedy: "name another port, or none and a free one is taken"}
	case len(taken) == 0:
		return finding{Status: statusOK, Saw: "free"}
	}
	if runtime, err := d.runtime(); err == nil && infoErr == nil {
		nameHolders(ctx, runtime, taken)
	}
	return finding{Status: statusOK, Saw: portsTaken(taken)}
}

func (d *diagnosis) weights(ctx context.Context) finding {
	source, auto, err := d.wishes.weightsSource()
	if err != nil {
		return failed(err, "")
	}
	if source.Kind != steps.Pretrained && !auto {
		return finding{Status: statusOK, Saw: weightsName(source)}
	}
	cache, err := d.store()
	if err != nil {
		return finding{} // the cache's own check says it
	}
	switch err := pretrained(ctx, cache, reachable); {
	case err == nil:
		return finding{Status: statusOK, Saw: "the pretrained weights can be had"}
	case auto:
		return finding{Status: statusWarn, Saw: err.Error() + "; seeded random weights would be used"}
	default:
		return failed(err, "check the network or proxy; --weights auto falls back to seeded weights")
	}
}
