package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
)

// swept is a container that was removed, or would be.
type swept struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// inFlight is how long a container engine may go on creating a container for a client that was killed: 144 ms were the most in 200
// creations that were abandoned on two cores with six busy loops. A slow disk takes longer.
const inFlight = 2 * time.Second

// sweepContainers removes the containers that are nobody's. With foreign it also removes other hosts' batch containers.
//
// Where a run of the workspace was killed, whenever that was, the first sweep after it goes on looking: what the container engine still
// creates for that run is in no list yet.
func sweepContainers(ctx context.Context, runtime container.Runtime, me owner.Identity, workspace string, foreign bool) ([]swept, error) {
	end := time.Now()
	killed := owner.Killed(workspace)
	if len(killed) > 0 {
		end = end.Add(inFlight)
	}
	tick := time.NewTicker(inFlight / 20)
	defer tick.Stop()
	var removed []swept
	for {
		last := !time.Now().Before(end)
		now, err := sweepListed(ctx, runtime, me, foreign)
		removed = append(removed, now...)
		if err != nil {
			return removed, err
		}
		if last {
			return removed, forget(workspace, killed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return removed, fmt.Errorf("look for what the container engine creates for a run that was killed: %w", context.Cause(ctx))
		}
	}
}

// forget removes the locks of killed runs of which nothing is left. One that another process holds now is being removed by that one.
func forget(workspace string, killed []string) error {
	for _, run := range killed {
		lock, err := owner.Acquire(workspace, run)
		if errors.Is(err, owner.ErrRunHeld) {
			continue
		}
		if err != nil {
			return err
		}
		if err := lock.Release(); err != nil {
			return err
		}
	}
	return nil
}

// sweepListed removes what is nobody's of the containers that the container engine lists.
func sweepListed(ctx context.Context, runtime container.Runtime, me owner.Identity, foreign bool) ([]swept, error) {
	dead, err := deadContainers(ctx, runtime, me, foreign)
	if err != nil {
		return nil, err
	}
	var removed []swept
	var errs []error
	for _, d := range dead {
		if err := runtime.Remove(ctx, d.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove container %s: %w", d.Name, err))
			continue
		}
		removed = append(removed, d.swept)
	}
	return removed, errors.Join(errs...)
}

type deadContainer struct {
	ID string
	swept
}

func deadContainers(ctx context.Context, runtime container.Runtime, me owner.Identity, foreign bool) ([]deadContainer, error) {
	const limit = 30 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("list containers: no answer within %s", limit))
	defer cancel()
	all, err := runtime.List(ctx, owner.Labels())
	if err != nil {
		return nil, err
	}
	var dead []deadContainer
	for _, c := range all {
		state, reason := owner.Verdict(c.Labels, me)
		batch := c.Labels[container.LabelRole] == string(container.RoleBatch)
		if state == owner.Orphaned || state == owner.Expired || foreign && state == owner.Foreign && batch {
			dead = append(dead, deadContainer{c.ID, swept{c.Name, reason}})
		}
	}
	return dead, nil
}

// needed says whether a workspace still needs an entry that it pinned: setup's link leads there, or its server, which may be of an earlier
// run, serves from there. Where its server file cannot be read, nobody knows.
func needed(p store.Pin) bool {
	if p.Holds(filepath.Join(p.Name, repositoryLink)) {
		return true
	}
	server, err := owner.ReadServer(p.Name)
	if err != nil {
		return !errors.Is(err, owner.ErrNoServer)
	}
	return p.Holds(server.Repository)
}
