package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
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

	holder *container.Summary // that has it, if it is one of dalirun
	by     func() string      // else the program, as " by nginx (pid 123)"; empty if it is not known. To find it takes a look at every process
}

// lister lists containers, as [container.Runtime] does.
type lister interface {
	List(ctx context.Context, labels container.Labels) ([]container.Summary, error)
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
		taken = append(taken, takenPort{Port: p, by: func() string {
			if user, ok := host.PortUser(os.DirFS("/proc"), p.Host); ok {
				return " by " + user
			}
			return ""
		}})
	}
	return taken, err
}

// nameHolders finds out which of the ports containers of dalirun have. Nil knows of none.
func nameHolders(ctx context.Context, containers lister, taken []takenPort) {
	if len(taken) == 0 || containers == nil {
		return
	}
	all, err := containers.List(ctx, owner.Labels())
	if err != nil {
		return // it only adds to what is said
	}
	for i := range taken {
		taken[i].holder = publisher(all, taken[i].Host)
	}
}

// publisher finds the container that is published on a port of this host.
func publisher(all []container.Summary, port uint16) *container.Summary {
	for _, c := range all {
		for _, addr := range c.Ports {
			if addr.Port() == port {
				return &c
			}
		}
	}
	return nil
}

func (p takenPort) String() string {
	return fmt.Sprintf("port %d is in use%s", p.Host, p.user())
}

// user says by whom the port is used, as far as it is known.
func (p takenPort) user() string {
	switch {
	case p.holder == nil:
		return p.by()
	case owner.IsServer(p.holder.Labels):
		return fmt.Sprintf(" by %s, the server of %s", p.holder.Name, p.holder.Labels[container.LabelWorkspace])
	default:
		return fmt.Sprintf(" by %s, of a run in %s", p.holder.Name, p.holder.Labels[container.LabelWorkspace])
	}
}

// portsTaken says which ports are taken that nobody named. Whoever has several of them is named once.
func portsTaken(taken []takenPort) string {
	var users []string
	ports := map[string][]string{}
	for _, p := range taken {
		user := p.user()
		if ports[user] == nil {
			users = append(users, user)
		}
		ports[user] = append(ports[user], strconv.Itoa(int(p.Host)))
	}
	for i, user := range users {
		of := ports[user]
		users[i] = "port " + of[0] + " is in use" + user
		if len(of) > 1 {
			users[i] = "ports " + listed(of) + " are in use" + user
		}
	}
	free := "a free one will be taken"
	if len(taken) > 1 {
		free = "free ones will be taken"
	}
	return strings.Join(users, "; ") + ": " + free
}

// refusal is nil for a port that nobody named: a free one is taken.
func (p takenPort) refusal() error {
	if !p.Required {
		return nil
	}
	hint := "stop what uses it"
	switch {
	case p.holder == nil:
	case owner.IsServer(p.holder.Labels):
		hint = "stop it with `" + owner.StopCommand(p.holder.Labels[container.LabelWorkspace]) + "`"
	default:
		hint = "wait for that run to end"
	}
	return pipeline.Faultf(pipeline.Environment, hint+", name another, or name none and a free one is taken", "%s", p)
}
