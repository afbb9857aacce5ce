package serving

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/runlog"
	"github.com/dalirun/dalirun/pipeline"
)

// exitWithin bounds the question how a server ended, which only completes what is told.
const exitWithin = 5 * time.Second

// Logs calls each with the lines that a workspace's server has written: the one that runs, else the one that ran last.
// Of that it first calls notice with a text that says when it ended. Everything else is as in
// [container.Container.Logs]. Of a server whose container is removed there are the lines that its run saw, or that were
// kept when it was removed, and nothing to follow.
//
// A workspace in which no server has run is a fault of [pipeline.NotReady], one whose server runs on another host a
// fault of [pipeline.Environment].
func (s Servers) Logs(
	ctx context.Context, workspace string, o container.LogOptions, each func(container.LogLine) error, notice func(string),
) error {
	servers, err := s.Find(ctx, workspace)
	if err != nil {
		return err
	}
	if len(servers) > 0 {
		err := s.engineLogs(ctx, latest(servers), o, each, notice)
		if !errors.Is(err, container.ErrNotFound) {
			return err
		}
	}
	return s.keptLogs(workspace, o, each, notice)
}

// engineLogs hands on what the container engine has of a server.
func (s Servers) engineLogs(
	ctx context.Context, server Container, o container.LogOptions, each func(container.LogLine) error, notice func(string),
) error {
	c, err := s.Runtime.Open(ctx, server.ID)
	if err != nil {
		return err
	}
	if !server.Running {
		notice(server.Name + howEnded(ctx, c))
	}
	err = c.Logs(ctx, o, each)
	if err == nil && o.Follow && server.Running {
		notice(server.Name + howEnded(ctx, c))
	}
	return err
}

// howEnded says, behind its name, how a container ended that does not run.
func howEnded(ctx context.Context, c container.Container) string {
	ctx, cancel := context.WithTimeout(ctx, exitWithin)
	defer cancel()
	exit, err := c.Wait(ctx)
	switch {
	case err != nil: // it was removed
		return " has ended"
	case exit.At.IsZero():
		return " does not run yet"
	case exit.OOM:
		return " was killed for memory at " + when(exit.At)
	default:
		return fmt.Sprintf(" ended with status %d at %s", exit.Code, when(exit.At))
	}
}

// when is a time as --since takes it.
func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// keptLogs hands on what is kept of the server that ran last.
func (s Servers) keptLogs(
	workspace string, o container.LogOptions, each func(container.LogLine) error, notice func(string),
) error {
	named, err := owner.ReadServer(workspace)
	if err != nil && !errors.Is(err, owner.ErrNoServer) {
		return err
	}
	if err := s.elsewhere(workspace, "logs"); err != nil {
		return err
	}
	dir, written, err := runlog.Last(owner.RunsDir(workspace), s.Step)
	if err != nil {
		return err
	}
	if dir == "" {
		return pipeline.Faultf(pipeline.NotReady, "start one with `"+CommandIn(workspace, "serve")+"`",
			"no server has run in %s, or its log is gone", workspace)
	}
	run := filepath.Base(dir)
	last, err := owner.ServerOf(workspace, run)
	about := fmt.Sprintf("no server runs in %s; the last one, ", workspace)
	switch {
	case err != nil: // it was not ready, or of e2e
		notice(about + fmt.Sprintf("of the run %s, wrote its last line at %s or before", run, when(written)))
	case last.Ended.IsZero() && named.Run == run:
		notice(about + last.Name + ", was removed, and not by dalirun: what it wrote once it was ready is lost")
	case last.Ended.IsZero():
		notice(about + fmt.Sprintf("%s, wrote its last line at %s or before", last.Name, when(written)))
	default:
		notice(about + fmt.Sprintf("%s, ended at %s", last.Name, when(last.Ended)))
	}
	return replay(runlog.Path(dir, s.Step), o, each)
}

// replay hands on the lines of a log that are wanted.
func replay(path string, o container.LogOptions, each func(container.LogLine) error) error {
	var all []container.LogLine
	var at time.Time // a line without a time has that of the one before
	err := runlog.Read(path, func(stamped time.Time, text string) error {
		if !stamped.IsZero() {
			at = stamped
		}
		all = append(all, container.LogLine{Time: at, Text: text})
		return nil
	})
	if err != nil {
		return err
	}
	if o.Tail >= 0 {
		all = all[max(0, len(all)-o.Tail):]
	}
	for _, l := range all {
		if l.Time.Before(o.Since) {
			continue
		}
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}

// LogRuns returns the runs in whose folders the log of a workspace's server is, or will be kept.
func (s Servers) LogRuns(workspace string) []string {
	var runs []string
	if server, err := owner.ReadServer(workspace); err == nil {
		runs = append(runs, server.Run)
	}
	if dir, _, err := runlog.Last(owner.RunsDir(workspace), s.Step); err == nil && dir != "" {
		runs = append(runs, filepath.Base(dir))
	}
	return runs
}
