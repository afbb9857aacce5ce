package steps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Serve starts tritonserver on the model repository, loads each model and proves by one inference that they work.
//
// It runs each time, and its result, a server, is not stored: it has no facts but its inputs.
type Serve struct {
	image      pipeline.Output
	repository pipeline.Output

	models              []string          `fact:"-"` // in the order in which they load
	arguments           []string          `fact:"-"` // added to tritonserver's usual ones
	env                 map[string]string `fact:"-"` // added to the environment that every container has
	gpus                gpuRequest        `fact:"-"`
	http, grpc, metrics container.Port    `fact:"-"`
	readyTimeout        time.Duration     `fact:"-"` // for each wait: live, and every model
	picture             target.Picture    `fact:"-"` // which the ensemble must answer
	handover            *Handover         `fact:"-"` // see [Tools]
	shm                 int64             `fact:"-"` // bytes of its /dev/shm
	containers          containers        `fact:"-"`
	evidence            Evidence          `fact:"-"`
}

func newServe(t target.Target, tools Tools, image, repository pipeline.Output) *Serve {
	s := &Serve{
		image: image, repository: repository,
		env: nvmlEnv(t), gpus: newGPURequest(t), http: t.Ports.HTTP, grpc: t.Ports.GRPC, metrics: t.Ports.Metrics,
		models: modelNames(t), readyTimeout: t.ReadyTimeout, picture: t.Picture, handover: tools.Handover,
		shm: cmp.Or(tools.Shm, DefaultShm), containers: newContainers(tools), evidence: tools.evidence(),
	}
	s.arguments = ServerArguments(t)
	return s
}

// ServerArguments are the options of a target's tritonserver besides the usual ones. Those for the sizes of its memory
// pools NVIDIA's servers of 2021 know too. A container numbers the GPUs that it sees from 0 on.
func ServerArguments(t target.Target) []string {
	var arguments []string
	if t.Serving.CUDAPool > 0 {
		for gpu := range max(len(t.Chosen), 1) {
			arguments = append(arguments, fmt.Sprintf("--cuda-memory-pool-byte-size=%d:%d", gpu, t.Serving.CUDAPool))
		}
	}
	if t.Serving.PinnedPool > 0 {
		arguments = append(arguments, fmt.Sprintf("--pinned-memory-pool-byte-size=%d", t.Serving.PinnedPool))
	}
	if t.Source == target.Local {
		// Every backend of the local image is Python, and completing a configuration would start its process once more.
		// NVIDIA's servers of 2021 do not know the option.
		arguments = append(arguments, "--disable-auto-complete-config")
	}
	return arguments
}

// Handover gives the server of a run to others. Such a server is drained before it is stopped: it answers the requests
// in flight. Repository and Ready are required.
type Handover struct {
	// Repository is called with the model repository in the cache, and returns the folder that the server serves: one
	// that has its files, and that nothing that becomes of the cache changes.
	Repository func(ctx context.Context, stored string) (folder string, err error)
	// Ready is called with the server once it is ready, before its step ends. After an error the server is stopped.
	Ready func(context.Context, result.Server) error
	// Detach says that the server outlives the run.
	Detach bool
}

const (
	serverOutput     = "server"
	repositoryTarget = "/models"

	// DrainGrace is how long a server that serves others may take to stop: tritonserver waits up to 30 s for requests
	// in flight (--exit-timeout-secs), and exits by itself then.
	DrainGrace = 35 * time.Second

	// lateHint says what to do about a server that is not ready in time.
	lateHint = "look at the last output for what it waits for; if that only takes long, give it more time by " +
		"--ready-timeout"
	// indexWithin bounds the request for the models that are not ready. The server has just answered another one.
	indexWithin = 2 * time.Second
	// exitKnown bounds the time from broken connections to a known exit of the server, whose log is read to its end
	// before.
	exitKnown = 2 * time.Second
)

// ID returns serve.
func (s *Serve) ID() pipeline.ID { return IDServe }

// Inputs are the server image and the model repository.
func (s *Serve) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.repository} }

// Outputs are the server: Ref is the address that its gRPC port is published at, Digest its container.
func (s *Serve) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDServe, Name: serverOutput}}
}

func (s *Serve) spec(image, repository string) container.Spec {
	spec := s.containers.spec(IDServe, image,
		"tritonserver", "--model-repository="+repositoryTarget, "--model-control-mode=explicit")
	spec.Command = append(spec.Command, s.arguments...)
	if s.handover != nil {
		spec.Role = container.RoleServer // others may use the server; else it belongs to its run alone
		spec.Model = s.ensemble()
	}
	spec.Network = container.NetworkPublish
	spec.Publish = []container.Port{s.http, s.grpc, s.metrics}
	spec.Inputs = []container.Mount{{Source: repository, Target: repositoryTarget}}
	spec.Grace, spec.Shm = DrainGrace, s.shm
	maps.Copy(spec.Env, s.env)
	spec.GPUs = s.gpus.GPUs
	return spec
}

// Run starts the server and returns when it is ready. The server stays until the end of the run, or beyond if it is
// detached.
func (s *Serve) Run(ctx context.Context, w *pipeline.Work) error {
	began := time.Now()
	p := &process{containers: s.containers, ended: make(chan struct{}), last: tail{read: poolWarner(w)}}
	w.Defer("stop the server", p.stop)
	folder := w.Input(s.repository).Path
	if s.handover != nil {
		var err error
		if folder, err = s.handover.Repository(ctx, folder); err != nil {
			return err
		}
	}
	keepConfigurations(s.evidence, folder)
	spec := s.spec(w.Input(s.image).Ref, folder)
	if err := p.start(ctx, w, spec); err != nil {
		return err
	}
	server, err := s.server(ctx, p)
	if err == nil && !spec.GPUs.IsZero() {
		err = p.proveGPUs(ctx, w, s.gpus, spec.Image)
	}
	if errors.Is(err, errServerExited) {
		return s.explain(ctx, p, spec, nil, err)
	}
	if err != nil {
		return err
	}
	server.Repository, server.Image = w.Input(s.repository).Path, w.Input(s.image).Digest
	w.Emit(result.Serving.New(server))
	client, err := triton.DialIn(p.container)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	if err := s.ready(ctx, w, p, client); err != nil {
		return s.explain(ctx, p, spec, client, err)
	}
	ready := time.Since(began)
	w.Emit(result.TimeToReady.New(ready.Seconds()))
	if s.handover != nil {
		p.drain = true
		if err := s.handover.Ready(ctx, server); err != nil {
			return err
		}
		p.detached = s.handover.Detach
	}
	w.Set(serverOutput, pipeline.Value{Ref: server.GRPC.String(), Digest: server.Container})
	return nil
}

// poolWarner returns a reader of the server's log that warns once of a pool that is too small.
func poolWarner(w *pipeline.Work) func(line string) {
	warned := false
	return func(line string) {
		if text := remedy.PoolOverflow(line); text != "" && !warned {
			warned = true
			w.Emit(pipeline.Warning{Text: text})
		}
	}
}

// ready waits until the server is live, loads each model, and lets the ensemble classify the picture: a dead Python
// stub leaves a model "ready", and the first request on a GPU takes half a second.
func (s *Serve) ready(ctx context.Context, w *pipeline.Work, p *process, client *triton.Client) error {
	if err := s.live(ctx, p, client); err != nil {
		return err
	}
	if err := p.within(ctx, s.readyTimeout, "tritonserver does not list its models", func(ctx context.Context) error {
		return checkNothingLoaded(ctx, client)
	}); err != nil {
		return err
	}
	for _, model := range s.models {
		w.Emit(pipeline.Progress{Text: "loading " + model})
		if err := p.within(ctx, s.readyTimeout, "model "+model+" is still loading", func(ctx context.Context) error {
			return client.Load(ctx, model)
		}); err != nil {
			return err
		}
	}
	w.Emit(pipeline.Progress{Text: "warming up"})
	return p.within(ctx, s.readyTimeout, s.ensemble()+" does not answer", func(ctx context.Context) error {
		_, err := client.Classify(ctx, s.ensemble(), s.picture.Data, 1)
		if err == nil || !s.answersSample(ctx, client) {
			return err
		}
		// The first request may have failed for a reason that has passed, such as a decoder that just started.
		if _, err = client.Classify(ctx, s.ensemble(), s.picture.Data, 1); errors.Is(err, triton.ErrInvalid) {
			return pipeline.Usagef("verify with another picture", "%s: %w", s.picture.Name, err)
		}
		return err
	})
}

// ensemble is what clients ask: the last model that is loaded.
func (s *Serve) ensemble() string { return s.models[len(s.models)-1] }

// live waits until the server is live. The fault of one that is late says what the last question met, such as that no
// way leads to the server's port.
func (s *Serve) live(ctx context.Context, p *process, client *triton.Client) error {
	var met error
	err := p.within(ctx, s.readyTimeout, "tritonserver is not live", func(ctx context.Context) error {
		met = client.WaitLive(ctx)
		return met
	})
	late, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || late.Kind != pipeline.NotReady {
		return err
	}
	if last, ok := errors.AsType[*triton.Error](met); ok {
		late.Err = fmt.Errorf("%w: %s", late.Err, last.Message)
	}
	return err
}

// checkNothingLoaded refuses a server that has models loaded already: one that was just started with explicit model
// control has none. Another server answers in its place where the published port is looked for on the wrong host, as
// with a container engine that a local program forwards to another machine.
func checkNothingLoaded(ctx context.Context, client *triton.Client) error {
	index, err := client.RepositoryIndex(ctx)
	if err != nil {
		return err
	}
	for _, model := range index {
		if model.State == triton.StateReady {
			return pipeline.Faultf(pipeline.Environment,
				"name the container engine by its own address (ssh:// or tcp://), or name free ports with --grpc-port, "+
					"--http-port and --metrics-port",
				"another server answers in the place of the one that was started: it has %s loaded already", model.Name)
		}
	}
	return nil
}

// answersSample reports whether a server that did not answer the user's picture answers another one, and so works.
func (s *Serve) answersSample(ctx context.Context, client *triton.Client) bool {
	if s.picture.Name == "" {
		return false
	}
	sample, err := Sample()
	if err == nil {
		_, err = client.Classify(ctx, s.ensemble(), sample.Data, 1)
	}
	return err == nil
}

// explain returns the fault of a server that is not ready because of err, with the reason of each model that gives one.
// client may be nil for a server that exited.
func (s *Serve) explain(ctx context.Context, p *process, spec container.Spec, client *triton.Client, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fault := &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Repeat: s.containers.runner.Repeat(spec)}
	if late, ok := errors.AsType[*pipeline.Fault](err); ok {
		if late.Kind != pipeline.NotReady { // the server works
			return late
		}
		fault.Err, fault.Hint = late.Err, late.Hint
	}
	if errors.Is(err, errServerExited) {
		fault.Hint, fault.Tail = exitHint(p.exit, spec.Memory), p.last.lines()
		if !p.exit.OOM {
			p.last.explain(fault)
		}
		return fault
	}
	states := notReady(ctx, client)
	p.kill(ctx) // the log is complete only when the server has ended
	fault.Tail = append(p.last.lines(), states...)
	p.last.explain(fault, append(states, err.Error())...)
	return fault
}

// notReady returns a line for each model that is not ready, and none if the server does not answer.
func notReady(ctx context.Context, client *triton.Client) []string {
	ctx, cancel := context.WithTimeout(ctx, indexWithin)
	defer cancel()
	index, err := client.RepositoryIndex(ctx)
	if err != nil {
		return nil // the error that is being explained says more
	}
	var states []string
	for _, m := range index {
		if m.State == triton.StateReady || m.State == "" {
			continue
		}
		line := fmt.Sprintf("%s: %s", m.Name, m.State)
		if m.Reason != "" {
			line += ": " + m.Reason
		}
		states = append(states, line)
	}
	return states
}

// server returns the server, with the addresses that its ports are published at.
func (s *Serve) server(ctx context.Context, p *process) (result.Server, error) {
	server := result.Server{Container: p.container.ID(), Name: p.container.Name(), Models: s.models}
	for _, port := range []struct {
		container.Port
		addr *netip.AddrPort
	}{{s.http, &server.HTTP}, {s.grpc, &server.GRPC}, {s.metrics, &server.Metrics}} {
		addr, err := p.container.Addr(ctx, port.Container)
		if err != nil {
			if p.hasExited(ctx) { // an exited container publishes nothing
				return server, p.exitError()
			}
			return server, err
		}
		*port.addr = netip.AddrPortFrom(cmp.Or(port.Address, addr.Addr()), addr.Port())
	}
	return server, nil
}
