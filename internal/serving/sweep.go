package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

// Leftover is a container that belongs to nobody any more.
type Leftover struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // why it belongs to nobody, in a clause

	container Container
}

const (
	// inFlight bounds how long a container engine may go on creating a container for a client that was killed: at most
	// 144 ms in 200 abandoned creations on two cores with six busy loops. A slow disk takes longer.
	inFlight = 2 * time.Second
	// listWithin bounds the list of all containers, which takes long on a busy container engine.
	listWithin = 30 * time.Second
)

// Sweep removes the containers of all workspaces that belong to nobody any more, and those in the states also, but for
// servers of other hosts, and returns them. With an error it returns what it had removed.
//
// After a run of the workspace was killed, however long ago, the first sweep lists containers for 2 s: a container that
// the container engine still creates for that run is in no list yet.
func (s Servers) Sweep(ctx context.Context, workspace string, also ...owner.State) ([]Leftover, error) {
	end := time.Now()
	killed := owner.Killed(workspace)
	if len(killed) > 0 {
		end = end.Add(inFlight)
	}
	tick := time.NewTicker(inFlight / 20)
	defer tick.Stop()
	var removed []Leftover
	for {
		last := !time.Now().Before(end)
		now, err := s.sweepOnce(ctx, also)
		removed = append(removed, now...)
		if err != nil {
			return removed, err
		}
		if last {
			return removed, owner.ReleaseKilled(workspace, killed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return removed, fmt.Errorf("look for what the container engine creates for a run that was killed: %w",
				context.Cause(ctx))
		}
	}
}

// sweepOnce removes the leftovers that the container engine lists now.
func (s Servers) sweepOnce(ctx context.Context, also []owner.State) ([]Leftover, error) {
	found, err := s.Leftovers(ctx, also...)
	if err != nil {
		return nil, err
	}
	var removed []Leftover
	var errs []error
	for _, l := range found {
		if err := s.remove(ctx, l.container); err != nil {
			errs = append(errs, fmt.Errorf("remove container %s: %w", l.Name, err))
			continue
		}
		removed = append(removed, l)
	}
	return removed, errors.Join(errs...)
}

// Leftovers returns the containers that [Servers.Sweep] would remove now. It waits up to 30 s for their list.
func (s Servers) Leftovers(ctx context.Context, also ...owner.State) ([]Leftover, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listWithin,
		fmt.Errorf("list containers: no answer within %s", listWithin))
	defer cancel()
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, c := range all {
		others := c.Owner == owner.Foreign && c.Labels[container.LabelRole] != string(container.RoleBatch)
		if c.Owner == owner.Orphaned || c.Owner == owner.Expired || slices.Contains(also, c.Owner) && !others {
			found = append(found, Leftover{c.Name, c.Why, c})
		}
	}
	return found, nil
}
