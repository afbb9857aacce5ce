// Package serving finds, judges, attends and stops a workspace's server, which a run started. It lets one process alone
// serve a workspace, says whether the server does what it is there for and what to do if not, and sweeps what dead runs
// left.
//
// A server is healthy if it answers an inference. Triton calls it live when its process answers, and ready when no
// model is being loaded and none has failed to: a model whose Python process is dead stays ready, and with explicit
// model control so does a server without any model, as after a restart.
package serving

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Runtime is what is needed of a container runtime, as of [container.Runtime].
type Runtime interface {
	Open(ctx context.Context, id string) (container.Container, error)
	List(ctx context.Context, labels container.Labels) ([]container.Summary, error)
	Remove(ctx context.Context, id string) error
}

// Servers are the servers that a container runtime runs, as one host sees them.
type Servers struct {
	Runtime Runtime
	Me      owner.Identity // who looks, and when
	// Step is the ID of the step that starts servers, as it is on their containers.
	Step string
	// Model answers a picture if all models of a server work.
	Model string
	// Grace is how long a server may take to let requests in flight end.
	Grace time.Duration
	// CacheFlags are the flags of dalirun that a command needs in a plain shell to find the same cache; there may be none.
	CacheFlags []string
	// Elsewhere is the container engine's endpoint, where the loopback address that it publishes ports on is not this
	// process's; empty where it is.
	Elsewhere string
}

// Container is a container of dalirun, and whose it is.
type Container struct {
	container.Summary

	Owner owner.State
	Why   string // Owner is so, in a clause
}

// Workspace is the absolute path of the container's workspace.
func (c Container) Workspace() string { return c.Labels[container.LabelWorkspace] }

// Run is the ID of the run that made the container.
func (c Container) Run() string { return c.Labels[container.LabelRun] }

// GRPC is where the container engine has published a server, host:port; empty where it has not, as of a container that has
// ended.
func (c Container) GRPC() string {
	if addr, ok := c.Ports[triton.PortGRPC]; ok {
		return addr.String()
	}
	return ""
}

// host is the container of a server, opened anew by each Dial: it may be removed at any time.
type host struct {
	runtime  Runtime
	id, name string
}

// Host is a server's container as its clients see it.
func (s Servers) Host(c Container) triton.Host { return host{s.Runtime, c.ID, c.Name} }

// Name is the container's.
func (h host) Name() string { return h.name }

// Dial connects to a port of the container.
func (h host) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	c, err := h.runtime.Open(ctx, h.id)
	if err != nil {
		return nil, err
	}
	return c.Dial(ctx, port)
}

// Address is where a server's gRPC port is reached from here: host:port; the container's name where nothing but Host leads
// there, and empty where the port is not published.
func (s Servers) Address(c Container) string {
	at, published := c.Ports[triton.PortGRPC]
	if published && s.Elsewhere != "" && at.Addr().IsLoopback() {
		return net.JoinHostPort(c.Name, strconv.Itoa(triton.PortGRPC))
	}
	return c.GRPC()
}

// ServesOthers says whether the container is a server that is there for more than its run.
func (c Container) ServesOthers() bool { return owner.IsServer(c.Labels) }

// File is what is known of a server beside its container; [owner.ErrNoServer] of one that is not ready yet.
func (c Container) File() (owner.ServerFile, error) { return owner.ServerOf(c.Workspace(), c.Run()) }

// List returns all containers of dalirun, of all hosts and workspaces.
func (s Servers) List(ctx context.Context) ([]Container, error) { return s.list(ctx, owner.Labels()) }

// Find returns the servers of a workspace of this host, those that have ended too. One that a run has for itself alone, as
// that of `dalirun e2e`, is none.
func (s Servers) Find(ctx context.Context, workspace string) ([]Container, error) {
	return s.list(ctx, container.Labels{
		container.LabelWorkspace: workspace, container.LabelRole: string(container.RoleServer), container.LabelHost: s.Me.Host,
	})
}

func (s Servers) list(ctx context.Context, labels container.Labels) ([]Container, error) {
	all, err := s.Runtime.List(ctx, labels)
	if err != nil {
		return nil, err
	}
	found := make([]Container, len(all))
	for i, c := range all {
		state, why := owner.Verdict(c.Labels, s.Me)
		found[i] = Container{c, state, why}
	}
	return found, nil
}

// Running returns the server of a workspace that answers, as far as its container tells, or a fault of [pipeline.NotReady].
func (s Servers) Running(ctx context.Context, workspace string) (Container, error) {
	servers, err := s.Find(ctx, workspace)
	if err != nil {
		return Container{}, err
	}
	for _, c := range servers {
		if c.Running && c.GRPC() != "" {
			return c, nil
		}
	}
	return Container{}, pipeline.Faultf(pipeline.NotReady, "start one with `"+CommandIn(workspace, "serve")+"`, or name one with --url HOST:PORT",
		"no server runs in %s", workspace)
}

// RunsTriton says whether tritonserver runs in a container, for others or for its run alone.
func (s Servers) RunsTriton(c Container) bool {
	return c.ServesOthers() || c.Labels[container.LabelStep] == s.Step
}

// LocalPort returns the port of a gRPC address, host:port, if the host is this one by its name or a loopback address.
func LocalPort(addr string) (port string, local bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", false
	}
	ip := net.ParseIP(host)
	return port, host == "localhost" || ip != nil && ip.IsLoopback()
}

// At returns the server of dalirun that is at an address, host:port: one of this host, of [LocalPort], or what
// [Servers.Address] is.
func (s Servers) At(ctx context.Context, addr string) (c Container, found bool, err error) {
	all, err := s.List(ctx)
	if err != nil {
		return Container{}, false, err
	}
	port, local := LocalPort(addr)
	local = local && s.Elsewhere == ""
	for _, c := range all {
		at, published := c.Ports[triton.PortGRPC]
		if !published || !c.ServesOthers() {
			continue
		}
		if local && strconv.Itoa(int(at.Port())) == port || s.Address(c) == addr {
			return c, true, nil
		}
	}
	return Container{}, false, nil
}
