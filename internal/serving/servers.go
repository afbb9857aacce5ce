// Package serving finds, judges, attends and stops a workspace's server, which a run started. It lets one process alone
// serve a workspace, judges whether the server is healthy and what mends it, and sweeps the containers of dead runs.
//
// A server is healthy if it answers an inference. Triton calls it live when its process answers, and ready when no
// model is being loaded and none has failed to: a model whose Python process is dead stays ready, and with explicit
// model control so does a server without any model, as after a restart.
package serving

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Runtime is the part of [container.Runtime] that this package uses.
type Runtime interface {
	Open(ctx context.Context, id string) (container.Container, error)
	List(ctx context.Context, labels container.Labels) ([]container.Summary, error)
	Remove(ctx context.Context, id string) error
}

// Servers are the servers in a container runtime, as one host sees them.
type Servers struct {
	Runtime Runtime
	Me      owner.Identity // of this host and process, with the time
	// Step is the ID of the step that starts servers, which their containers have as a label.
	Step string
	// Model is the model that answers only if all models of a server work, the ensemble, of a server that does not say
	// which it is.
	Model string
	// Grace is how long a server may take to let requests in flight end.
	Grace time.Duration
	// CacheFlags are the flags of dalirun by which a command in another shell finds the same cache. They may be empty.
	CacheFlags []string
	// Warn is told of what went wrong and stops nothing. It may be nil.
	Warn func(text string)
	// Elsewhere is the container engine's endpoint if the loopback address on which it publishes ports is not this
	// process's; else it is empty.
	Elsewhere string
}

func (s Servers) warn(text string) {
	if s.Warn != nil {
		s.Warn(text)
	}
}

// Container is a container of dalirun, and whose it is.
type Container struct {
	container.Summary

	Owner owner.State
	Why   string // the reason for Owner, in a clause
}

// Workspace returns the absolute path of the container's workspace.
func (c Container) Workspace() string { return c.Labels[container.LabelWorkspace] }

// Run returns the ID of the run that made the container.
func (c Container) Run() string { return c.Labels[container.LabelRun] }

// GRPC returns the address, host:port, at which the server's gRPC port is reached on the container engine's host; empty
// if it is not published, as of a container that has ended.
func (c Container) GRPC() string {
	if published, ok := c.Ports[triton.PortGRPC]; ok {
		return container.DialAddr(published).String()
	}
	return ""
}

// host is the container of a server. Its first Dial opens it: a container keeps the way by which it is reached.
type host struct {
	runtime  Runtime
	id, name string
	opened   atomic.Pointer[container.Container]
}

func newHost(r Runtime, id, name string) *host { return &host{runtime: r, id: id, name: name} }

// Host returns a server's container as a host for clients.
func (s Servers) Host(c Container) triton.Host { return newHost(s.Runtime, c.ID, c.Name) }

// ModelOf returns the model of a server that answers only if all of its models work: what clients ask.
func (s Servers) ModelOf(c Container) string { return cmp.Or(c.Labels[container.LabelModel], s.Model) }

// Name returns the container's name.
func (h *host) Name() string { return h.name }

// Dial connects to a port of the container.
func (h *host) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if opened := h.opened.Load(); opened != nil {
		return (*opened).Dial(ctx, port)
	}
	c, err := h.runtime.Open(ctx, h.id)
	if err != nil {
		return nil, err
	}
	h.opened.Store(&c)
	return c.Dial(ctx, port)
}

// Address returns the address, host:port, at which a server's gRPC port is reached from here. The host is the
// container's name if only [Servers.Host] reaches it. The address is empty if the port is not published.
func (s Servers) Address(c Container) string {
	published, ok := c.Ports[triton.PortGRPC]
	if ok && s.Elsewhere != "" && container.DialAddr(published).Addr().IsLoopback() {
		return net.JoinHostPort(c.Name, strconv.Itoa(triton.PortGRPC))
	}
	return c.GRPC()
}

// ServesOthers reports whether the container is a server for others than its run.
func (c Container) ServesOthers() bool { return owner.IsServer(c.Labels) }

// File returns what is recorded of a server, or [owner.ErrNoServer] for a server that is not ready yet.
func (c Container) File() (owner.ServerFile, error) { return owner.ServerOf(c.Workspace(), c.Run()) }

// List returns all containers of dalirun, of all hosts and workspaces.
func (s Servers) List(ctx context.Context) ([]Container, error) { return s.list(ctx, owner.Labels()) }

// Find returns the servers of a workspace of this host, also those that have ended. The server of `dalirun e2e`, which
// is for its run alone, is not among them.
func (s Servers) Find(ctx context.Context, workspace string) ([]Container, error) {
	return s.list(ctx, container.Labels{
		container.LabelWorkspace: workspace, container.LabelRole: string(container.RoleServer),
		container.LabelHost: s.Me.Host,
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
	return found, s.judgeJobs(ctx, found)
}

// judgeJobs gives to nobody what a job made that was a container itself, and that has ended: no process of it lives. A
// server may have been left on purpose, for whoever came after the job.
func (s Servers) judgeJobs(ctx context.Context, found []Container) error {
	ofJob := func(c Container) bool {
		return c.Owner == owner.Foreign && c.Labels[container.LabelJob] != "" && !c.ServesOthers()
	}
	if !slices.ContainsFunc(found, ofJob) {
		return nil
	}
	all, err := s.Runtime.List(ctx, container.Labels{})
	if err != nil {
		return err
	}
	living := map[string]bool{}
	for _, c := range all {
		living[c.ID] = c.Running
	}
	for i, c := range found {
		if job := c.Labels[container.LabelJob]; ofJob(c) && !living[job] {
			found[i].Owner, found[i].Why = owner.Orphaned, "the job that made it, in the container "+shortID(job)+", has ended"
		}
	}
	return nil
}

// shortID is an ID as container engines show it.
func shortID(id string) string {
	const short = 12
	return id[:min(short, len(id))]
}

// Running returns the server of a workspace whose container runs and has a published port, or a fault of
// [pipeline.NotReady].
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
	for _, c := range servers {
		if h, err := s.Judge(ctx, c); err == nil && h.State == Ended {
			return Container{}, pipeline.Faultf(pipeline.NotReady, h.Hint(), "the server %s is %s", c.Name, h)
		}
	}
	return Container{}, pipeline.Faultf(pipeline.NotReady,
		"start one with `"+CommandIn(workspace, "serve")+"`, or name one with --url HOST:PORT",
		"no server runs in %s", workspace)
}

// Latest returns the server of a workspace: the one that runs, else the one that was made last, which has ended or is
// about to run. That there is none is a fault of [pipeline.NotReady], and one on another host a fault of
// [pipeline.Environment], in whose hint command is what is run there.
func (s Servers) Latest(ctx context.Context, workspace, command string) (Container, error) {
	servers, err := s.Find(ctx, workspace)
	if err != nil {
		return Container{}, err
	}
	if len(servers) > 0 {
		return latest(servers), nil
	}
	if err := s.elsewhere(workspace, command); err != nil {
		return Container{}, err
	}
	return Container{}, pipeline.Faultf(pipeline.NotReady, "start one with `"+CommandIn(workspace, "serve")+"`",
		"no server runs in %s", workspace)
}

// latest returns the server that runs, else the one that was made last.
func latest(servers []Container) Container {
	return slices.MaxFunc(servers, func(a, b Container) int {
		if a.Running != b.Running {
			return cmp.Compare(rank(a), rank(b))
		}
		return a.Created.Compare(b.Created)
	})
}

// rank lets the server that runs go before others.
func rank(c Container) int {
	if c.Running {
		return 1
	}
	return 0
}

// elsewhere is a fault of [pipeline.Environment] if the server that is recorded of a workspace is on another host,
// where command is to be run.
func (s Servers) elsewhere(workspace, command string) error {
	named, err := owner.ReadServer(workspace)
	if err != nil || named.Host == "" || named.Host == s.Me.Host {
		return nil //nolint:nilerr // what is recorded of no server, or cannot be read, says nothing about a host
	}
	return pipeline.Faultf(pipeline.Environment, "run `"+CommandIn(workspace, command)+"` there",
		"the server of %s, %s, is on another host, %s", workspace, named.Name, named.Host)
}

// RunsTriton reports whether a container is a tritonserver's, for others or for its run alone.
func (s Servers) RunsTriton(c Container) bool {
	return c.ServesOthers() || c.Labels[container.LabelStep] == s.Step
}

// LocalPort returns the port of an address, host:port. local reports whether the host is localhost or a loopback
// address.
func LocalPort(addr string) (port string, local bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", false
	}
	ip := net.ParseIP(host)
	return port, host == "localhost" || ip != nil && ip.IsLoopback()
}

// At returns the server of dalirun at an address, host:port: a local one of [LocalPort], or one of [Servers.Address].
func (s Servers) At(ctx context.Context, addr string) (c Container, found bool, err error) {
	all, err := s.List(ctx)
	if err != nil {
		return Container{}, false, err
	}
	port, local := LocalPort(addr)
	local = local && s.Elsewhere == ""
	for _, c := range all {
		published, isPublished := c.Ports[triton.PortGRPC]
		if !isPublished || !c.ServesOthers() {
			continue
		}
		if local && strconv.Itoa(int(published.Port())) == port || s.Address(c) == addr {
			return c, true, nil
		}
	}
	return Container{}, false, nil
}
