package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// decidePorts refuses named ports that are in use. Serving takes a free port in place of a usual one that is in use. A
// port that this process may not try is left to the container engine, which has other rights. Ports of an engine whose
// loopback address is not this process's cannot be tried from here.
func (x *resolution) decidePorts(ctx context.Context) {
	if !x.request.namesPorts() {
		return
	}
	x.doubtExposure()
	if x.remote || x.info.OtherLoopback {
		x.doubtNamedPorts()
		return
	}
	ports := x.target.Ports
	var own []string
	for _, p := range []container.Port{ports.HTTP, ports.GRPC, ports.Metrics} {
		if !p.Required && !p.Address.IsValid() && !x.request.Exhaustive {
			continue
		}
		at := netip.AddrPortFrom(p.HostAddress(), p.Host)
		free, err := x.probes.Host.PortFree(ctx, at)
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			x.refuse(CheckPorts, pipeline.Faultf(pipeline.Environment, remedy.OtherHost,
				"%s: this host has no such address", x.request.Settings.Written("host", p.HostAddress().String())))
			return
		}
		if err != nil {
			x.target.Ports.Untried = err.Error()
		}
		if err == nil && !free && x.isTaken(ctx, p, at) {
			own = append(own, strconv.Itoa(int(p.Host)))
		}
	}
	if len(own) > 0 { // only a run that starts another server is refused for that
		x.doubt(CheckPorts, "the server of this workspace has what is named: "+strings.Join(own, ", "),
			"setup, reload and restart go on with them; e2e needs others")
	}
}

// isTaken decides about a port that is in use: a named one is refused, and for another one a free port will be taken.
// It reports whether the workspace's own server has a named one, for a request that starts no other.
func (x *resolution) isTaken(ctx context.Context, p container.Port, at netip.AddrPort) (own bool) {
	user, hint, own := x.portUser(ctx, at)
	switch {
	case p.Required && own && !x.request.startsServer():
		return true
	case p.Required:
		x.refuse(CheckPorts, pipeline.Faultf(pipeline.Environment,
			hint+", name another, or name none and a free one is taken", "port %d is in use%s", p.Host, user))
	default:
		x.target.Ports.Taken = append(x.target.Ports.Taken, TakenPort{Port: p.Host, User: user})
	}
	return false
}

// doubtExposure says of a server that others than this host's users can reach.
func (x *resolution) doubtExposure() {
	if a := x.request.Host; a.IsValid() && !a.Unmap().IsLoopback() {
		x.doubt(CheckPorts, fmt.Sprintf("the server is published on %s, and Triton has no authentication: whoever reaches "+
			"its ports may use, load and unload models", a), "let a firewall decide who reaches them, or leave out "+
			x.request.Settings.Written("host", a.String()))
	}
}

// doubtNamedPorts says of ports that were named, and cannot be tried from here, that they may be in use.
func (x *resolution) doubtNamedPorts() {
	for _, flag := range []string{"http-port", "grpc-port", "metrics-port"} {
		if s, named := x.request.Settings.Find(flag); named && s.Value != "0" {
			x.doubt(CheckPorts, s.String()+": whether it is free on the container engine's host cannot be seen from here",
				"name none, and a free one is taken there")
		}
	}
}

// portUser returns by whom a port of an address is used, as " by nginx (pid 123)" or empty if it is not known, what to
// do about it, and whether it is the server of the request's workspace.
func (x *resolution) portUser(ctx context.Context, at netip.AddrPort) (user, hint string, own bool) {
	holder := x.publisher(ctx, at)
	switch {
	case holder == nil:
		if program := x.probes.Host.PortUser(at); program != "" {
			user = " by " + program
		}
		return user, "stop what uses it", false
	case owner.IsServer(holder.Labels):
		workspace := holder.Labels[container.LabelWorkspace]
		return fmt.Sprintf(" by %s, the server of %s", holder.Name, workspace),
			"stop it with `" + owner.StopCommand(workspace) + "`", workspace == x.request.Workspace
	default:
		return fmt.Sprintf(" by %s, of a run in %s", holder.Name, holder.Labels[container.LabelWorkspace]),
			"wait for that run to end", false
	}
}

// publisher returns the container of dalirun whose published port takes an address; nil if none is known.
func (x *resolution) publisher(ctx context.Context, at netip.AddrPort) *container.Summary {
	if x.engineErr != nil {
		return nil
	}
	all, err := x.probes.Runtime.List(ctx, owner.Labels())
	if err != nil {
		return nil // the name of a container only completes the message
	}
	for _, c := range all {
		for _, published := range c.Ports {
			if container.Takes(published, at) {
				return &c
			}
		}
	}
	return nil
}
