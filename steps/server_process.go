package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

var errServerExited = errors.New("tritonserver exited")

// process is the server's container.
type process struct {
	containers containers
	container  container.Container
	last       tail
	ended      chan struct{} // closed when exit is known
	exit       container.Exit
	err        error
	drain      bool // others may be using the server: stop it gracefully
	detached   bool // the server outlives the run
}

func (p *process) start(ctx context.Context, w *pipeline.Work, spec container.Spec) error {
	c, err := p.containers.start(ctx, spec, p.last.streams(w))
	if err != nil {
		return err
	}
	p.container = c
	go func() {
		// The wait outlives the step: the log is followed as long as the server runs.
		p.exit, p.err = c.Wait(context.WithoutCancel(ctx))
		close(p.ended)
	}()
	return nil
}

// kill ends a server that cannot be used, and waits a little for the end of its log. stop removes the container later.
func (p *process) kill(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, exitKnown)
	defer cancel()
	if p.container.Stop(ctx, 0) != nil {
		return // stop will report it
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
	}
}

// stop removes the server at the end of the run, unless it is detached. A server that serves others is drained before.
// Any other is killed, since a loading tritonserver ignores SIGTERM.
func (p *process) stop(ctx context.Context) error {
	if p.container == nil || p.detached {
		return nil
	}
	var err error
	if p.drain {
		err = p.stopGracefully(ctx)
	}
	return errors.Join(err, p.containers.runner.Remove(ctx, p.container.ID()))
}

// stopGracefully drains and stops the server in the time that ctx leaves, less half of removeWithin for the removal,
// which kills it.
func (p *process) stopGracefully(ctx context.Context) error {
	grace := DrainGrace
	if end, ok := ctx.Deadline(); ok {
		grace = min(grace, time.Until(end)-removeWithin)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-removeWithin/2))
		defer cancel()
	}
	if grace <= 0 {
		return nil
	}
	if err := p.container.Stop(ctx, grace); err != nil {
		return err
	}
	p.hasExited(ctx) // and its last words have arrived: the log of a removed container cannot be read
	return nil
}

// within runs call, which ends at the latest after limit or when the server exits. symptom is what is wrong with a
// server whose call has not ended by then.
func (p *process) within(
	ctx context.Context, limit time.Duration, symptom string, call func(context.Context) error,
) error {
	late := pipeline.Faultf(pipeline.NotReady, lateHint, "%s after %s", symptom, limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		// the server knows the deadline, and can notice it before ctx ends
		case errors.Is(err, context.DeadlineExceeded):
			return late
		case errors.Is(err, triton.ErrUnavailable) && p.hasExited(ctx):
			return p.exitError() // the call failed because of the exit
		default:
			return err
		}
	case <-p.ended:
		return p.exitError()
	}
}

// hasExited reports whether the server has exited. It waits a little, since connections break before the exit is known.
func (p *process) hasExited(ctx context.Context) bool {
	timer := time.NewTimer(exitKnown)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (p *process) exitError() error {
	switch {
	case p.err != nil:
		return fmt.Errorf("%w: %w", errServerExited, p.err)
	case p.exit.OOM:
		return fmt.Errorf("%w: it was killed for memory", errServerExited)
	default:
		return fmt.Errorf("%w with status %d", errServerExited, p.exit.Code)
	}
}
