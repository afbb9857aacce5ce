package trial

import (
	"context"
	"errors"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tune"
)

// Tuning is a search for settings with which a target's server does more: each candidate is a server of its own. All
// fields but CPUs are required.
type Tuning struct {
	Target target.Target  // of the server of the start
	Asked  target.Serving // what the user asked for of it
	CPUs   int            // of the container engine's host; 0 if they are not known
	Load   tune.Load
	Budget time.Duration // of the search

	// Stand starts a server of a target and verifies it, calls then with the ID of its container, and ends it when then
	// has returned.
	Stand func(ctx context.Context, t target.Target, then func(ctx context.Context, server string) error) error
	// Open finds a server's container.
	Open func(ctx context.Context, id string) (container.Container, error)
	// Progress is called with what ended, as a line that stays, and with what is under way.
	Progress func(text string, ended bool)
}

// Search searches while the server of the start, which was verified, stands in the container start. ready is how long
// that took to become ready. The result is nil if there was no search; with an error there may be one, of what was
// proven until then.
func (t Tuning) Search(ctx context.Context, start string, ready time.Duration) (*tune.Result, error) {
	began := time.Now()
	first, err := t.connect(ctx, start, func(context.Context) error { return nil }) // who started it stops it
	if err != nil {
		return nil, err
	}
	if t.Load, err = t.Load.Half(ctx, first); err != nil {
		return nil, errors.Join(err, first.Stop(ctx))
	}
	first.Use(t.Load)
	search := tune.Search{
		Knobs: tune.Knobs(t.Target, t.CPUs), Objective: t.Load.Objective, Budget: t.Budget, Now: time.Now,
		Open: t.open, Progress: t.Progress, Opening: time.Since(began) + ready,
	}
	outcome, err := search.Run(ctx, first)
	asked, askedErr := t.asked(outcome.Best)
	return &tune.Result{
		Version: tune.Version, Lane: string(t.Target.Lane), Load: t.Load, Outcome: outcome,
		Serving: flagvalue.ServingMap(asked),
	}, errors.Join(err, askedErr, first.Stop(ctx), context.Cause(ctx))
}

// asked is what a user would ask for to have a setting.
func (t Tuning) asked(s tune.Setting) (target.Serving, error) {
	asked := t.Asked
	if len(s) == 0 {
		return asked, nil
	}
	return asked, flagvalue.Serving(&asked).Set(s.Assignments())
}

// open starts a server with a setting, which is verified.
func (t Tuning) open(ctx context.Context, s tune.Setting) (tune.Server, error) {
	asked, err := t.asked(s)
	if err != nil {
		return nil, err
	}
	candidate := t.Target
	candidate.Serving = target.DecideServing(asked, candidate, t.CPUs)
	id, stop, err := t.stand(ctx, candidate)
	if err != nil {
		return nil, err
	}
	server, err := t.connect(ctx, id, stop)
	if err != nil {
		return nil, err
	}
	return server, nil
}

// stand starts a server that stands until stop is called, and returns the ID of its container.
func (t Tuning) stand(ctx context.Context, of target.Target) (id string, stop func(context.Context) error, err error) {
	standing, over, ended := make(chan string, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- t.Stand(ctx, of, func(ctx context.Context, server string) error {
			standing <- server
			select {
			case <-over:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	select {
	case id = <-standing:
	case err := <-ended:
		return "", nil, err
	}
	return id, func(context.Context) error { // its end has a time of its own
		close(over)
		return <-ended
	}, nil
}

// connect returns a server that was verified, warmed up. stop ends it, after an error too.
func (t Tuning) connect(ctx context.Context, id string, stop func(context.Context) error) (*tune.Loaded, error) {
	server, err := t.Open(ctx, id)
	if err != nil {
		return nil, errors.Join(err, stop(ctx))
	}
	return tune.Connect(ctx, server, t.Load, t.Target.Picture.Data, stop)
}
