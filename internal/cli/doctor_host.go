package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/steps"
)

// engine asks the container engine what it is.
func (d *diagnosis) engine(context.Context) finding {
	info, err := d.info()
	if err != nil {
		return failed(err, "start it: `sudo systemctl start docker`, or in a checkout `go tool task engine`")
	}
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s %s (API %s) at %s", info.Name, info.Version, info.APIVersion, info.Endpoint)}
	if info.Remote {
		f.Saw += ", which is another host: `dalirun setup` works from here, serving does not"
	}
	return f
}

// platform says which system this is. WSL needs care, which a run takes by itself.
func (d *diagnosis) platform(context.Context) finding {
	here := runtime.GOOS + "/" + runtime.GOARCH
	proc, err := fs.Sub(d.root, "proc")
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

func (d *diagnosis) ports(ctx context.Context) finding {
	f := finding{Status: statusOK, Saw: "free"}
	for _, p := range []container.Port{
		port(d.wishes.http, steps.PortHTTP), port(d.wishes.grpc, steps.PortGRPC), port(d.wishes.metrics, steps.PortMetrics),
	} {
		free, err := host.IsPortFree(ctx, p.Host)
		if err != nil {
			return finding{Status: statusWarn, Saw: err.Error(), Remedy: "name another port, or none and a free one is taken"}
		}
		if free {
			continue
		}
		by := ""
		if user, ok := host.PortUser(os.DirFS("/proc"), p.Host); ok {
			by = " by " + user
		}
		f.Saw = fmt.Sprintf("port %d is in use%s", p.Host, by)
		if p.Required {
			f.Status, f.Remedy = statusFail, "stop it, name another port, or name none and a free one is taken"
			return f
		}
		f.Saw += ": a free one will be taken"
	}
	return f
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
		return failed(err, "name another folder with --cache-dir")
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
