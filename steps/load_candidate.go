package steps

import (
	"context"
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// Replacement says in whose place a reload puts what a target builds. All fields are required.
type Replacement struct {
	Server ReloadedServer
	Folder string // the served repository
	// Replacing is called with true before the first model is replaced, and with false if all is as it was after all.
	Replacing func(bool) error
	// Replaced is called once the server answers from the new model repository, with its path in the cache.
	Replaced func(repository string) error
}

// ReloadedServer is a server that goes on while its models are replaced.
type ReloadedServer struct {
	Container string // ID
	Image     string // what identifies the image that it runs, as by [ServerImage]; empty if that is not known
	// RestartHint is the advice where only another server can serve what was built.
	RestartHint string
	// FinishHint is the advice where a reload has begun to replace models, and did not end.
	FinishHint string
}

// open returns the server, whose client the caller closes.
func (s ReloadedServer) open(ctx context.Context, runner container.Runner) (server liveServer, err error) {
	if server.container, err = runner.Open(ctx, s.Container); err == nil {
		server.client, err = triton.DialIn(server.container)
	}
	return server, err
}

// checkImage refuses a model repository that was built for another image than the server's. What the records say of
// that was looked at before the reload; the image may have been made anew since, as one that was removed.
func (s ReloadedServer) checkImage(built pipeline.Value) error {
	if s.Image == "" || built.Digest == s.Image {
		return nil
	}
	return pipeline.Faultf(pipeline.Environment, s.RestartHint,
		"what was built is for the image %s, which is %s, and the server runs %s", built.Ref, built.Digest, s.Image)
}

// removeCandidates takes candidates out of service at the end of a reload. Candidates that stay are no fault of it:
// what is served is decided by then, and the next reload removes them.
func (s ReloadedServer) removeCandidates(
	ctx context.Context, runner container.Runner, w *pipeline.Work, c *candidates,
) error {
	if err := s.remove(ctx, runner, c); err != nil {
		w.Emit(pipeline.Warning{Text: "the next reload removes the candidates, which stay meanwhile: " + err.Error()})
	}
	return nil
}

// remove takes candidates out of service, through a connection of its own.
func (s ReloadedServer) remove(ctx context.Context, runner container.Runner, c *candidates) error {
	server, err := s.open(ctx, runner)
	if err != nil {
		return err
	}
	defer server.client.Close() //nolint:errcheck // nothing is in flight
	return c.remove(ctx, server)
}

// RemoveCandidates takes out of service what a reload that was killed has left on a server that serves what was built.
func RemoveCandidates(ctx context.Context, t target.Target, tools Tools, r Replacement) error {
	c, err := newCandidates(r.Folder, modelNames(t), t.ReadyTimeout)
	if err != nil {
		return err
	}
	return r.Server.remove(ctx, tools.Runner, c)
}

// LoadCandidate loads a model repository beside what a server serves, under names of its own. Verify lets them answer.
//
// It runs each time, and its result is not stored: it has no facts but its inputs.
type LoadCandidate struct {
	image      pipeline.Output
	repository pipeline.Output

	server     ReloadedServer   `fact:"-"`
	candidates *candidates      `fact:"-"`
	runner     container.Runner `fact:"-"`
	// of the run's GPU that has the least free; nil where no GPU is used
	gpuMemory func(context.Context) (trtexec.GPUMemory, error) `fact:"-"`
}

func newLoadCandidate(tools Tools, r Replacement, c *candidates, image, repository pipeline.Output) *LoadCandidate {
	return &LoadCandidate{
		image: image, repository: repository, server: r.Server, candidates: c,
		runner: tools.Runner, gpuMemory: tools.GPUMemory,
	}
}

const candidateOutput = "candidate"

// ID returns load-candidate.
func (s *LoadCandidate) ID() pipeline.ID { return IDLoadCandidate }

// Inputs are the server image and the model repository.
func (s *LoadCandidate) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.repository} }

// Outputs are the server with the candidates: Digest is its container.
func (s *LoadCandidate) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDLoadCandidate, Name: candidateOutput}}
}

// Run loads the candidates. They are removed at the end of the run.
func (s *LoadCandidate) Run(ctx context.Context, w *pipeline.Work) error {
	if err := s.server.checkImage(w.Input(s.image)); err != nil {
		return err
	}
	server, err := s.server.open(ctx, s.runner)
	if err != nil {
		return err
	}
	defer server.client.Close() //nolint:errcheck // nothing is in flight
	if err := s.checkRoom(ctx, w, server.container); err != nil {
		return err
	}
	w.Defer("remove the candidates", func(ctx context.Context) error {
		return s.server.removeCandidates(ctx, s.runner, w, s.candidates)
	})
	if err := s.candidates.take(ctx, w.Input(s.repository).Path); err != nil {
		return err
	}
	for _, name := range s.candidates.names() {
		w.Emit(pipeline.Progress{Text: "loading " + name})
		if err := s.candidates.load(ctx, server, name); err != nil {
			return err
		}
	}
	w.Set(candidateOutput, pipeline.Value{Digest: s.server.Container})
	return nil
}

// checkRoom refuses to load as much again as is loaded where there is no memory for it.
func (s *LoadCandidate) checkRoom(ctx context.Context, w *pipeline.Work, server container.Container) error {
	rooms := []room{hostRoom(ctx, server)}
	if s.gpuMemory != nil {
		gpu, err := s.gpuMemory(ctx)
		if err != nil {
			return err
		}
		rooms = append(rooms, room{"the GPU", gpu.Total - gpu.Free, gpu.Free})
	}
	for _, r := range rooms {
		if r.used == 0 {
			continue // it is not known
		}
		w.Emit(pipeline.Line{Text: fmt.Sprintf("%s: %s are used, about as much again is needed meanwhile, and %s are free",
			r.of, bytesize.Format(r.used), bytesize.Format(r.free))})
		if r.used > r.free {
			return pipeline.Faultf(pipeline.Environment,
				"--in-place loads the models one by one in the place of what is served, unproven; or "+s.server.RestartHint,
				"load the candidates beside what is served: they may need %s of memory of %s, and %s are free",
				bytesize.Format(r.used), r.of, bytesize.Format(r.free))
		}
	}
	return nil
}
