// Package status says how a workspace's server is: whether it is healthy, what it serves and what was built since, and
// what each of its models does.
//
// Durations are in seconds, sizes in bytes, rates in requests or pictures a second, and shares from 0 to 1, in JSON
// too.
package status

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Version is the version of the JSON form of a [Status], docs/schemas/status.schema.json. It grows when a reader of the
// old form would go wrong.
const Version = 1

// UsualWindow is how long requests are counted for rates and shares of time.
const UsualWindow = time.Second

// Status is all that is known of a workspace's server.
type Status struct {
	Version   int            `json:"version"`
	Workspace string         `json:"workspace"`
	Judged    time.Time      `json:"judged" jsonschema:"when the server was judged"`
	Health    serving.Health `json:"health" jsonschema:"by an inference"`
	Server    Server         `json:"server"`
	// Served is empty where nobody noted it, as before the server is ready.
	Served Served `json:"served"`
	// Built is nil if the server serves what was last built, or if that is not known.
	Built *Built `json:"built,omitempty" jsonschema:"what was built since, and is not served"`
	// GPUs are those of the server's container, on the gpu lane. GPUsMissing says why there are none.
	GPUs        []GPU  `json:"gpus" jsonschema:"those of the server's container"`
	GPUsMissing string `json:"gpus_missing,omitempty" jsonschema:"why the gpu lane has none"`
	// Models are those of the server's repository, in the order in which a request runs through them. There are none of
	// a server that cannot be reached; ModelsMissing says why there are none of another one.
	Models        []Model `json:"models"`
	ModelsMissing string  `json:"models_missing,omitempty" jsonschema:"why there are none of a server that answers"`
	// WindowSeconds is how long requests were counted for rates and shares of time; 0 if they were not.
	WindowSeconds float64   `json:"window_seconds" jsonschema:"how long requests were counted for rates and busy shares"`
	Findings      []Finding `json:"findings" jsonschema:"what else deserves attention"`
}

// Server is the container of a server, and where it is reached.
type Server struct {
	Name      string    `json:"name" jsonschema:"of the container"`
	Container string    `json:"container" jsonschema:"ID of the container"`
	Image     string    `json:"image" jsonschema:"that the container is of"`
	Run       string    `json:"run" jsonschema:"ID of the run that started it"`
	Running   bool      `json:"running"`
	Created   time.Time `json:"created" jsonschema:"when the container was made"`
	Ready     time.Time `json:"ready,omitzero" jsonschema:"when the server was first healthy"`
	// The addresses, host:port, at which the ports are reached on the container engine's host; empty where they are not
	// published. Engine is that host's endpoint if the addresses are valid there alone.
	GRPC    string `json:"grpc,omitempty"`
	HTTP    string `json:"http,omitempty"`
	Metrics string `json:"metrics,omitempty"`
	Engine  string `json:"engine,omitempty" jsonschema:"container engine on whose host alone the addresses are valid"`
}

// Served is what answers requests, or would.
type Served struct {
	owner.Served

	// MaxBatch is the most pictures of a request; 0 if it is not known.
	MaxBatch   int    `json:"max_batch,omitempty" jsonschema:"the most pictures of a request"`
	Repository string `json:"repository,omitempty" jsonschema:"model repository in the cache"`
}

// Built is what was last built in a workspace, where its server serves something else.
type Built struct {
	Served

	Run  string    `json:"run"`
	Time time.Time `json:"time"`
	// Differences are those between what is served and what was built that are told in a word. There may be none, as
	// where the models have other instances.
	Differences []owner.Difference `json:"differences"`
	Command     string             `json:"command" jsonschema:"that serves it, for a shell"`
}

// Finding is what deserves attention, and what to do.
type Finding struct {
	Text string    `json:"text"`
	Time time.Time `json:"time,omitzero" jsonschema:"when it was last seen"`
}

// Fault is nil if the server is healthy or busy, [pipeline.Environment] if that could not be found out, and else
// [pipeline.NotReady].
func (s Status) Fault() error {
	kind := pipeline.NotReady
	switch s.Health.State {
	case serving.Healthy, serving.Busy:
		return nil
	case serving.NotJudged:
		kind = pipeline.Environment
	default:
	}
	return pipeline.Faultf(kind, s.Health.Hint(), "the server %s is %s", s.Server.Name, s.Health)
}

// Place is a workspace and the servers among which its own is.
type Place struct {
	Servers   serving.Servers
	Workspace string
	// Window is how long requests are counted for rates and shares of time.
	Window time.Duration
}

// Look returns how the workspace's server is now. That there is none is a fault of [pipeline.NotReady]. It takes Window
// and what [serving.Servers.Judge] takes, and 10 s more for a server that answers late.
func (p Place) Look(ctx context.Context) (Status, error) {
	c, err := p.Servers.Latest(ctx, p.Workspace, "status")
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Version: Version, Workspace: p.Workspace, Server: p.server(c),
		GPUs: []GPU{}, Models: []Model{}, Findings: []Finding{}, // lists of none
	}
	// Before the models are looked at, so that this inference is not counted with those of the window.
	if s.Health, err = p.Servers.Judge(ctx, c); err != nil {
		return Status{}, err
	}
	s.Judged = time.Now().UTC()
	file, err := c.File()
	if err != nil && !errors.Is(err, owner.ErrNoServer) {
		s.find(err)
	}
	s.Server.Ready = file.Started
	s.Served = Served{Served: serving.ServedBy(file), Repository: file.Repository}

	var looks sync.WaitGroup
	switch s.Health.State {
	case serving.Ended, serving.Silent, serving.NotJudged: // nothing there answers
	default:
		looks.Go(func() { p.addModels(ctx, c, &s) })
	}
	if c.Running && file.Lane == string(target.GPU) {
		looks.Go(func() { p.addGPU(ctx, c, &s) })
	}
	looks.Wait()
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	if s.Built, err = p.builtSince(file, s.Served); err != nil {
		s.find(err)
	}
	return s, nil
}

// Watch looks again and again, each time every after the last one began or later, and shows what it sees. It ends with
// the cause of ctx's end, with an error of show, and once the server has ended or is removed with a fault of
// [pipeline.NotReady]. A server that is not healthy may become so, and is looked at further.
func (p Place) Watch(ctx context.Context, every time.Duration, show func(Status) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s, err := p.Look(ctx)
		if err != nil {
			return err
		}
		if err := show(s); err != nil {
			return err
		}
		if s.Health.State == serving.Ended {
			return s.Fault()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// find adds an error to what deserves attention, with what to do about it.
func (s *Status) find(err error) {
	text := err.Error()
	if hint := pipeline.HintOf(err); hint != "" {
		text += "; " + hint
	}
	s.Findings = append(s.Findings, Finding{Text: text})
}

func (p Place) server(c serving.Container) Server {
	address := func(port uint16) string {
		if published, ok := c.Ports[port]; ok {
			return container.DialAddr(published).String()
		}
		return ""
	}
	s := Server{
		Name: c.Name, Container: c.ID, Image: c.Image, Run: c.Run(), Running: c.Running, Created: c.Created.UTC(),
		GRPC: address(triton.PortGRPC), HTTP: address(triton.PortHTTP), Metrics: address(triton.PortMetrics),
	}
	if at, err := netip.ParseAddrPort(s.GRPC); err == nil && at.Addr().IsLoopback() {
		s.Engine = p.Servers.Elsewhere
	}
	return s
}

// builtSince returns what was last built, if that is known not to be what is served.
func (p Place) builtSince(file owner.ServerFile, served Served) (*Built, error) {
	last, err := owner.ReadBuilt(p.Workspace)
	if errors.Is(err, owner.ErrNothingBuilt) || err == nil && !last.ServesAnother(file) {
		return nil, nil //nolint:nilnil // nothing was built, or it is served
	}
	if err != nil {
		return nil, err
	}
	b := Built{
		Run: last.Run, Time: last.Time.UTC(), Command: serving.TakeCommand(p.Workspace, file, last),
		Served: Served{Served: last.Served, MaxBatch: last.MaxBatch, Repository: last.Repository},
	}
	b.Differences = differences(file, served, last)
	return &b, nil
}

// differences are those between what is served and what was built last: of the models, and of the server itself.
func differences(file owner.ServerFile, served Served, last owner.Built) []owner.Difference {
	return append(owner.KnownDifferences([]owner.Difference{
		{Fact: "weights", Served: served.Weights, Built: last.Weights},
		{Fact: "precision", Served: served.Precision, Built: last.Precision},
		{Fact: "max batch", Served: number(served.MaxBatch), Built: number(last.MaxBatch)},
	}), last.ServerDifferences(file)...)
}

// number is empty for one that is not known, 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
