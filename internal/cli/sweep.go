package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

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
// Where a run of the workspace was killed a moment ago it goes on looking: what the engine still creates for that run is in no list yet.
func sweepContainers(ctx context.Context, runtime container.Runtime, me owner.Identity, workspace string, foreign bool) ([]swept, error) {
	tick := time.NewTicker(inFlight / 20)
	defer tick.Stop()
	var removed []swept
	for end := time.Now().Add(inFlight); ; {
		now, err := sweepListed(ctx, runtime, me, foreign)
		removed = append(removed, now...)
		if err != nil || time.Now().After(end) || !killedSince(workspace, me, time.Now().Add(-inFlight)) {
			return removed, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return removed, fmt.Errorf("look for what the container engine creates for a run that was killed: %w", context.Cause(ctx))
		}
	}
}

// killedSince says whether a run of the workspace was killed since then in the middle of a step, as far as its log tells.
func killedSince(workspace string, me owner.Identity, then time.Time) bool {
	runs, err := os.ReadDir(filepath.Dir(owner.RunDir(workspace, "x")))
	if err != nil {
		return false // there was none
	}
	for _, run := range runs {
		log := filepath.Join(owner.RunDir(workspace, run.Name()), "events.jsonl")
		if info, err := os.Stat(log); err != nil || info.ModTime().Before(then) {
			continue
		}
		state, _ := owner.Verdict(container.Labels{
			container.LabelRun: run.Name(), container.LabelWorkspace: workspace, container.LabelRole: string(container.RoleBatch),
			container.LabelHost: me.Host,
		}, me)
		if state == owner.Dead && unfinished(log) {
			return true
		}
	}
	return false
}

// unfinished says whether a log of events tells of a step's start and not of its end.
func unfinished(log string) bool {
	data, err := os.ReadFile(log)
	if err != nil {
		return false
	}
	working := map[string]bool{}
	for line := range bytes.Lines(data) {
		var e struct{ Step, Kind string }
		if json.Unmarshal(line, &e) != nil {
			continue // the last one, of which a part was written
		}
		switch e.Kind {
		case "step.started":
			working[e.Step] = true
		case "step.ended":
			delete(working, e.Step)
		}
	}
	return len(working) > 0
}

// sweepListed removes what is nobody's of the containers that the engine lists.
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
	all, err := runtime.List(ctx, ownLabels())
	if err != nil {
		return nil, err
	}
	var dead []deadContainer
	for _, c := range all {
		state, reason := owner.Verdict(c.Labels, me)
		batch := c.Labels[container.LabelRole] == string(container.RoleBatch)
		if state == owner.Dead || state == owner.Expired || foreign && state == owner.Foreign && batch {
			dead = append(dead, deadContainer{c.ID, swept{c.Name, reason}})
		}
	}
	return dead, nil
}

// ownLabels are on everything that dalirun makes.
func ownLabels() container.Labels { return container.Labels{container.LabelRun: ""} }

// unpinGone gives up what workspaces without a server had pinned. One that is being served may be about to name its server.
func unpinGone(ctx context.Context, s *store.Store) error {
	pins, err := s.Pins(ctx)
	if err != nil {
		return err
	}
	for _, pin := range pins {
		if _, err := os.Stat(owner.ServerPath(pin.Name)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		alone := flock.New(serveLock(pin.Name))
		if _, err := os.Stat(pin.Name); err == nil {
			if free, err := alone.TryLock(); err != nil || !free {
				continue
			}
		}
		if err := errors.Join(s.Unpin(pin.Name), alone.Unlock()); err != nil {
			return err
		}
	}
	return nil
}
