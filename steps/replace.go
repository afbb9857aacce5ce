package steps

import (
	"context"
	"errors"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// Replace puts what a target built in the place of what a server serves.
//
// It runs each time, and its result is not stored: it has no facts but its inputs.
type Replace struct {
	image      pipeline.Output
	repository pipeline.Output
	proof      pipeline.Output // of the candidates; none for models that are replaced in place

	server     ReloadedServer     `fact:"-"`
	replacing  func(bool) error   `fact:"-"` // see [Replacement]
	replaced   func(string) error `fact:"-"` // see [Replacement]
	candidates *candidates        `fact:"-"`
	runner     container.Runner   `fact:"-"`
}

func newReplace(tools Tools, r Replacement, c *candidates, image, repository, proof pipeline.Output) *Replace {
	return &Replace{
		image: image, repository: repository, proof: proof, server: r.Server, replacing: r.Replacing, replaced: r.Replaced,
		candidates: c, runner: tools.Runner,
	}
}

// ID returns replace.
func (s *Replace) ID() pipeline.ID { return IDReplace }

// Inputs are the server image, the model repository, and the proof that the candidates are right, if there are any.
func (s *Replace) Inputs() []pipeline.Output {
	if s.inPlace() {
		return []pipeline.Output{s.image, s.repository}
	}
	return []pipeline.Output{s.image, s.repository, s.proof}
}

func (s *Replace) inPlace() bool { return s.proof.Step == "" }

// Outputs are the server: Digest is its container.
func (s *Replace) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDReplace, Name: serverOutput}}
}

// Run replaces the models. Once it has begun it ends, whatever becomes of the run: half of it helps nobody.
func (s *Replace) Run(ctx context.Context, w *pipeline.Work) error {
	ctx = context.WithoutCancel(ctx) // each load has a limit
	if err := s.server.checkImage(w.Input(s.image)); err != nil {
		return err
	}
	server, err := s.server.open(ctx, s.runner)
	if err != nil {
		return err
	}
	defer server.client.Close() //nolint:errcheck // nothing is in flight
	if err := s.replacing(true); err != nil {
		return err
	}
	repository := w.Input(s.repository).Path
	if s.inPlace() {
		w.Defer("remove the candidates", func(ctx context.Context) error { // of a reload that was killed
			return s.server.removeCandidates(ctx, s.runner, w, s.candidates)
		})
		err = s.candidates.loadAnew(ctx, server, repository)
	} else {
		err = s.candidates.replace(ctx, server, repository)
	}
	if err != nil && !s.candidates.changing {
		return errors.Join(err, s.replacing(false))
	}
	if err == nil {
		err = s.replaced(repository)
	}
	if err != nil {
		return s.unfinished(err)
	}
	w.Set(serverOutput, pipeline.Value{Digest: s.server.Container})
	return nil
}

// unfinished is the fault of a replacement that has begun and not ended: nobody knows from which models the ensemble
// answers.
func (s *Replace) unfinished(err error) error {
	fault := pipeline.Fault{Kind: pipeline.Environment, Err: err}
	if of, ok := errors.AsType[*pipeline.Fault](err); ok {
		fault.Kind, fault.Hint = of.Kind, of.Hint
	} else if of, ok := remedy.EngineFault(err); ok {
		fault = *of
	}
	if fault.Hint != "" {
		fault.Hint += "; "
	}
	fault.Hint += s.server.FinishHint
	return &fault
}
