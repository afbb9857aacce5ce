package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// server is who is loaded.
type server struct {
	address     string
	environment bench.Environment // but for what is sent to it

	// Of the workspace's server; nil and empty for another one.
	host      triton.Host
	workspace string
	servers   serving.Servers
	model     string   // that clients ask
	gpus      []string // UUIDs of its GPUs, if they are this host's and known
}

// find finds the server, and what is known of it. Of one that an address names nothing is: what runs there may change
// without its address, and the other way round.
func (t Trial) find(ctx context.Context) (server, error) {
	if t.Request.URL != "" {
		return server{address: t.Request.URL, environment: bench.Environment{Server: t.Request.URL}}, nil
	}
	workspace, err := t.Finder.Workspace(ctx)
	if err != nil {
		return server{}, err
	}
	servers, err := t.Finder.Servers(ctx)
	if err != nil {
		return server{}, err
	}
	c, err := servers.Running(ctx, workspace)
	if err != nil {
		return server{}, err
	}
	s := server{
		address: servers.Address(c), host: servers.Host(c), workspace: workspace, servers: servers,
		model: servers.ModelOf(c),
	}
	file, err := c.File()
	switch {
	case err == nil && file.Lane != "":
		s.gpus = file.GPUUUIDs
		s.environment = bench.Environment{GPU: file.GPUs, Driver: file.Driver, Image: file.Image, Lane: file.Lane}
		return s, nil
	case err != nil && !errors.Is(err, owner.ErrNoServer):
		t.Notice("warning: what the server runs on is not known: " + err.Error())
	}
	s.environment.Server = s.address
	return s, nil
}

func (s server) dial(r Request) (*triton.Client, error) {
	if s.host != nil {
		return triton.DialIn(s.host, bench.DialOptions()...)
	}
	client, err := triton.Dial(s.address, bench.DialOptions()...)
	if err != nil {
		return nil, pipeline.Usagef("as in --url localhost:8001", "%s: %w", r.Settings.Origin("url"), err)
	}
	return client, nil
}

// fault returns the fault for an error of the server. If the server is the workspace's, the fault says what is wrong
// with it.
func (s server) fault(ctx context.Context, r Request, err error) error {
	fault := &pipeline.Fault{Kind: pipeline.NotReady, Err: err}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, triton.ErrUnavailable) && s.host != nil:
		fault.Hint = "`" + serving.CommandIn(s.workspace, "logs") + "` shows what it wrote last"
	case errors.Is(err, triton.ErrUnavailable):
		fault.Hint = "is a server at " + s.address + "? `dalirun ps` lists those of dalirun"
	case errors.Is(err, triton.ErrNotFound):
		fault.Hint = "--model names a model that the server has loaded"
	case errors.Is(err, triton.ErrInvalid):
		fault.Kind = pipeline.Usage
		fault.Hint = "name other pictures, or with --model a model that takes them, as " + r.Ensemble + " does"
	case errors.Is(err, context.DeadlineExceeded):
		fault.Hint = "give it longer with --timeout"
	}
	if s.host == nil {
		return fault
	}
	return s.servers.WithHealth(ctx, s.address, fault)
}

// logWithin bounds the reading of the log: the container engine has 100 MiB of it at most.
const logWithin = 10 * time.Second

// findings are what the log of the workspace's server has since a time that explains figures. The time is this host's,
// and the log's the container engine's: where their clocks differ, some of it is missed, or older.
func (s server) findings(ctx context.Context, since time.Time, tell func(string)) []string {
	if s.host == nil {
		return nil
	}
	// Who interrupts gets what was measured, with what explains it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logWithin)
	defer cancel()
	var found []string
	options := container.LogOptions{Tail: container.AllLines, Since: since}
	err := s.servers.Logs(ctx, s.workspace, options, func(l container.LogLine) error {
		if text := remedy.PoolOverflow(l.Text); text != "" {
			found = append(found, text)
			return io.EOF // once is enough
		}
		return nil
	}, func(string) {})
	if err != nil && !errors.Is(err, io.EOF) {
		tell("warning: what the server's log says of the figures is not known: " + err.Error())
	}
	return found
}

// connection is a server that is ready to be loaded.
type connection struct {
	server  server
	clients []*triton.Client
	account *bench.Triton
	models  []bench.Model
	bench   bench.Bench // once all is prepared
}

func (c *connection) close() {
	for _, client := range c.clients {
		_ = client.Close() // nothing is in flight, or nobody waits for it
	}
}

// connect connects to the server and asks which models take part in a request.
func (t Trial) connect(ctx context.Context, s server) (*connection, error) {
	c := &connection{server: s}
	for range t.Request.Connections + 1 { // the first one is for questions: one full of pictures delays the answers
		client, err := s.dial(t.Request)
		if err != nil {
			c.close()
			return nil, err
		}
		c.clients = append(c.clients, client)
	}
	asking, cancel := context.WithTimeout(ctx, t.Request.Timeout)
	defer cancel()
	var err error
	if c.account, err = bench.NewTriton(asking, c.clients[0], t.Request.Model); err != nil {
		c.close()
		return nil, s.fault(ctx, t.Request, err)
	}
	c.models = c.account.Models()
	return c, nil
}

// prepare encodes all requests before the first is sent, those of the warm-up too.
func (t Trial) prepare(ctx context.Context, c *connection, pictures [][]byte) error {
	r := t.Request
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	requester, err := bench.NewPictures(asking, c.clients[1:], r.Model, pictures, r.Batch, bench.WarmupFor(c.models).Batch)
	if _, ofServer := errors.AsType[*triton.Error](err); ofServer {
		return c.server.fault(ctx, r, err)
	}
	if err != nil {
		return pipeline.Usagef("name with --model a model that takes a picture as its one input, as "+r.Ensemble+" does",
			"%w", err)
	}
	c.bench = bench.Bench{Requester: requester, Server: c.account}
	return nil
}

// answers is why a run is the last one: no answer to any request of a load, or a server that is gone.
func (c *connection) answers(ctx context.Context, r Request, run []bench.Measurement) error {
	for _, m := range run {
		if m.Answered == 0 {
			why := "the first is not answered yet"
			if len(m.Errors) > 0 {
				why = m.Errors[0].Example
			}
			return pipeline.Faultf(pipeline.NotReady, "ask for less at a time, or give it longer with --timeout",
				"no request was answered with %s: %s", m.Load, why)
		}
	}
	if !slices.ContainsFunc(run, func(m bench.Measurement) bool { return m.Failed > 0 }) {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if _, err := c.clients[0].Metadata(asking); err != nil {
		return c.server.fault(ctx, r, fmt.Errorf("the server does not answer any more: %w", err))
	}
	return nil
}
