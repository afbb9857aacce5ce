package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/pipeline"
)

func port(n *number, usual uint16) container.Port {
	if n.value != 0 {
		return container.Port{Container: usual, Host: uint16(n.value), Required: true} //nolint:gosec // 1 to 65535
	}
	return container.Port{Container: usual, Host: usual}
}

// takenPort is a port that another program has.
type takenPort struct {
	container.Port

	by func() string // the program, as " by nginx (pid 123)"; empty if it is not known. To find it takes a look at every process
}

// takenPorts returns those that other programs have. A container engine on another host publishes on ports that cannot be seen from here.
// The error is of the last one that could not be tried, as one under 1024 without the right to it.
func takenPorts(ctx context.Context, info container.Info, ports ...container.Port) (taken []takenPort, err error) {
	if info.Remote {
		return nil, nil
	}
	for _, p := range ports {
		free, tried := host.IsPortFree(ctx, p.Host)
		if tried != nil {
			err = tried
		}
		if tried != nil || free {
			continue
		}
		taken = append(taken, takenPort{p, func() string {
			if user, ok := host.PortUser(os.DirFS("/proc"), p.Host); ok {
				return " by " + user
			}
			return ""
		}})
	}
	return taken, err
}

func (p takenPort) String() string { return fmt.Sprintf("port %d is in use%s", p.Host, p.by()) }

// refusal is nil for a port that nobody named: a free one is taken.
func (p takenPort) refusal() error {
	if !p.Required {
		return nil
	}
	return pipeline.Faultf(pipeline.Environment, "stop what uses it, name another, or name none and a free one is taken", "%s", p)
}
