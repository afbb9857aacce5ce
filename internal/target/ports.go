package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	if a := x.request.Host; a.IsValid() && !a.Unmap().IsLoopback() {
		x.doubt(CheckPorts, fmt.Sprintf("the server is published on %s, and Triton has no authentication: whoever reaches "+
			"its ports may use, load and unload models", a), "let a firewall decide who reaches them, or leave out "+
			x.request.Settings.Written("host", a.String()))
	}
	ports := &x.target.Ports
	if x.remote || x.info.OtherLoopback {
		x.doubtNamedPorts()
		return
	}
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
			ports.Untried = err.Error()
		}
		if err != nil || free {
			continue
		}
		user, hint := x.portUser(ctx, at)
		if p.Required {
			x.refuse(CheckPorts, pipeline.Faultf(pipeline.Environment,
				hint+", name another, or name none and a free one is taken", "port %d is in use%s", p.Host, user))
			continue
		}
		// A free port will be taken instead.
		ports.Taken = append(ports.Taken, TakenPort{Port: p.Host, User: user})
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

// portUser returns by whom a port of an address is used, as " by nginx (pid 123)" or empty if it is not known, and what
// to do about it.
func (x *resolution) portUser(ctx context.Context, at netip.AddrPort) (user, hint string) {
	holder := x.publisher(ctx, at)
	switch {
	case holder == nil:
		if program := x.probes.Host.PortUser(at); program != "" {
			user = " by " + program
		}
		return user, "stop what uses it"
	case owner.IsServer(holder.Labels):
		workspace := holder.Labels[container.LabelWorkspace]
		return fmt.Sprintf(" by %s, the server of %s", holder.Name, workspace),
			"stop it with `" + owner.StopCommand(workspace) + "`"
	default:
		return fmt.Sprintf(" by %s, of a run in %s", holder.Name, holder.Labels[container.LabelWorkspace]),
			"wait for that run to end"
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
