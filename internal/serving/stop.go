package serving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// removeWithin bounds the time that the container engine takes to end a container, beyond the server's time to
	// drain.
	removeWithin = 5 * time.Second
	// serveEndsWithin bounds the end of a foreground `dalirun serve` after its server was stopped.
	serveEndsWithin = 10 * time.Second
)

// StopObserver has the functions that [Servers.Stop] calls as it goes. All are required.
type StopObserver struct {
	Dead    func(name string, h Health) // before a server is ended at once, since it has nothing to drain
	Resumed func(name string)           // before a server whose container is paused goes on, to drain
	Stopped func(name string)           // after a server was removed
}

// Stop drains and removes a workspace's servers, and removes the server file. It ends a server at once that has nothing
// to drain, for which Triton would wait. One whose container is paused goes on, and drains what it had. It then waits
// up to 10 s for the end of the `dalirun serve` that lost its server, so that the next one finds the workspace free. It
// returns how many servers were stopped.
//
// It does not stop servers of another user or host: a fault of [pipeline.Environment] says whose they are.
func (s Servers) Stop(ctx context.Context, workspace string, observer StopObserver) (stopped int, err error) {
	servers, err := s.Find(ctx, workspace)
	if err != nil {
		return 0, err
	}
	// All that could stop it half-way is checked first.
	if err := s.refuseStop(ctx, workspace, servers); err != nil {
		return 0, err
	}
	for i, c := range servers {
		if err := s.stop(ctx, c, observer); err != nil {
			return i, fmt.Errorf("stop %s: %w", c.Name, err)
		}
		observer.Stopped(c.Name)
	}
	if err := owner.RemoveServer(workspace); err != nil || len(servers) == 0 {
		return len(servers), err
	}
	return len(servers), awaitServe(ctx, workspace)
}

// refuseStop refuses to stop servers of another host or user. This user could remove another user's container, and not
// its files.
func (s Servers) refuseStop(ctx context.Context, workspace string, servers []Container) error {
	var runs []string
	for _, c := range servers {
		runs = append(runs, c.Run())
	}
	command := owner.StopCommand(workspace)
	user, err := owner.OtherUser(workspace, runs...)
	switch {
	case err != nil:
		return pipeline.Faultf(pipeline.Environment, "", "find out whose the server of %s is: %w", workspace, err)
	case user != "":
		return pipeline.Faultf(pipeline.Environment, "ask "+user+" to run `"+command+"`, or run it with sudo",
			"the server of %s belongs to %s: nothing is stopped", workspace, user)
	}
	file, err := owner.ReadServer(workspace)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return err
	case err == nil && file.Host != "" && file.Host != s.Me.Host:
		return pipeline.Faultf(pipeline.Environment, "run `"+command+"` there",
			"the server of %s, %s, was started on another host, %s: nothing is stopped", workspace, file.Name,
			file.Host)
	}
	if len(servers) > 0 {
		return nil
	}
	all, err := s.Runtime.List(ctx, container.Labels{
		container.LabelWorkspace: workspace,
		container.LabelRole:      string(container.RoleServer),
	})
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Running {
			return pipeline.Faultf(pipeline.Environment, "run `"+command+"` there",
				"%s serves a workspace of this path, %s, for another host, %s: nothing is stopped", c.Name, workspace,
				c.Labels[container.LabelHost])
		}
	}
	return nil
}

// stop drains and removes a server.
func (s Servers) stop(ctx context.Context, server Container, observer StopObserver) error {
	c, err := s.Runtime.Open(ctx, server.ID)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	grace := s.Grace
	h, err := s.health(ctx, server, StopWithin)
	if err != nil {
		return err
	}
	switch {
	case server.Paused: // what it was asked before waits in it
		observer.Resumed(server.Name)
	case h.Drains():
	default:
		grace = 0
		if server.Running {
			observer.Dead(server.Name, h)
		}
	}
	if err := owner.NoteStop(server.Labels[container.LabelWorkspace], server.Run()); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, grace+removeWithin)
	defer cancel()
	stopErr := c.Stop(limit, grace)
	if ctx.Err() != nil {
		return context.Cause(ctx) // the server is still the workspace's
	}
	return errors.Join(stopErr, s.remove(ctx, server))
}

// awaitServe waits for the end of a foreground `dalirun serve` whose server was stopped.
func awaitServe(ctx context.Context, workspace string) error {
	if _, err := os.Stat(LockPath(workspace)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, serveEndsWithin,
		pipeline.Faultf(pipeline.Environment, "end it with Ctrl-C",
			"the server is stopped, and a `dalirun serve` of %s has not ended after %s", workspace, serveEndsWithin))
	defer cancel()
	lock := flock.New(LockPath(workspace))
	if _, err := lock.TryLockContext(ctx, serveEndsWithin/200); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("wait for `dalirun serve` to end: %w", err)
	}
	return lock.Unlock()
}
