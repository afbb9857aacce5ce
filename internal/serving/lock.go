package serving

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// Lock is the lock of the one process that serves a workspace.
type Lock struct{ file *flock.Flock }

// LockPath returns the file that the process that serves a workspace locks.
func LockPath(workspace string) string { return filepath.Join(workspace, "serve.lock") }

// untilItServes is the hint for a workspace in which another `dalirun serve` is at work.
const untilItServes = "wait until it serves, end it with Ctrl-C, or name another --workspace"

// Lock makes this process the one that serves a workspace until [Lock.Release]. The workspace's folder must exist. If
// the workspace has a server, healthy or not, or another process is about to start one, the error is a fault of
// [pipeline.Environment].
func (s Servers) Lock(ctx context.Context, workspace string) (*Lock, error) {
	lock, free, err := tryLock(ctx, LockPath(workspace))
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		return nil, pipeline.Faultf(pipeline.Environment,
			"name another --workspace, or look what is in the way of that file", "lock the workspace: %w", err)
	}
	if !free {
		return nil, s.refuseBeside(ctx, workspace)
	}
	if err := s.refuseSecond(ctx, workspace); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return lock, nil
}

// tryLock locks a file if no other process has it locked. One that only looks whether it is has it for an instant.
// Where ctx has ended, the error is its cause: a signal has its own exit code.
func tryLock(ctx context.Context, path string) (lock *Lock, free bool, err error) {
	lock = &Lock{flock.New(path)}
	brief, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	free, err = lock.file.TryLockContext(brief, lookWithin/10)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		free, err = false, nil
	}
	return lock, free, err
}

// lookWithin is longer than a process has a lock that only looks.
const lookWithin = 300 * time.Millisecond

// Served reports whether a workspace has a server, or one is about to be started in it, and what is recorded of it;
// that is zero if it is not known.
func (s Servers) Served(ctx context.Context, workspace string) (file owner.ServerFile, served bool, err error) {
	lock := flock.New(LockPath(workspace))
	free, err := lock.TryLock()
	if err != nil {
		return file, false, err
	}
	if free {
		if err := lock.Unlock(); err != nil {
			return file, false, err
		}
		if _, running, err := s.detached(ctx, workspace); err != nil || !running {
			return file, false, err
		}
	}
	server, err := s.Running(ctx, workspace)
	if err != nil {
		return file, true, nil //nolint:nilerr // it is being started, or is another host's
	}
	file, err = server.File()
	if errors.Is(err, owner.ErrNoServer) {
		err = nil
	}
	return file, true, err
}

// lockRepository makes this process the one that changes what is recorded as built in a workspace, and the served
// repository with it, until [Lock.Release]. The wait for another one is bounded.
func lockRepository(ctx context.Context, workspace string) (*Lock, error) {
	const limit = 30 * time.Second // a copy of an engine between file systems takes seconds
	path := filepath.Join(workspace, "model_repository.lock")
	ctx, cancel := context.WithTimeoutCause(ctx, limit, pipeline.Faultf(pipeline.Environment,
		"wait until it ends, or name another --workspace",
		"another dalirun has changed the model repository of %s for %s", workspace, limit))
	defer cancel()
	lock := &Lock{flock.New(path)}
	if _, err := lock.file.TryLockContext(ctx, limit/1000); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("lock the model repository: %w", err)
	}
	return lock, nil
}

func reloadLockPath(workspace string) string { return filepath.Join(workspace, "reload.lock") }

// LockReload makes this process the one that reloads the server of a workspace until [Lock.Release].
func LockReload(ctx context.Context, workspace string) (*Lock, error) {
	lock, free, err := tryLock(ctx, reloadLockPath(workspace))
	if err == nil && !free {
		err = pipeline.Faultf(pipeline.Environment, "wait until it ends", "another `dalirun reload` is at work in %s",
			workspace)
	}
	return lock, err
}

// Release lets another process serve the workspace. It may be called twice.
func (l *Lock) Release() error { return l.file.Unlock() }

// refuseBeside returns why a workspace whose lock another process has cannot be served.
func (s Servers) refuseBeside(ctx context.Context, workspace string) error {
	servers, err := s.Find(ctx, workspace)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(servers, func(c Container) bool { return c.Running }); i >= 0 {
		return s.hasServer(ctx, workspace, servers[i], ", of another `dalirun serve`")
	}
	return pipeline.Faultf(pipeline.Environment, untilItServes, "another `dalirun serve` is at work in %s", workspace)
}

// refuseSecond returns an error if a workspace that no process serves has a detached server.
func (s Servers) refuseSecond(ctx context.Context, workspace string) error {
	c, running, err := s.detached(ctx, workspace)
	switch {
	case err != nil || !running:
		return err
	case c.ID == "":
		return pipeline.Faultf(pipeline.Environment, "stop it there, or name another --workspace",
			"%s has a server on another host, %s", workspace, c.Name)
	default:
		return s.hasServer(ctx, workspace, c, "")
	}
}

// detached returns the server that a workspace's server file names, and whether it runs. Of a server of another host
// that is assumed; it has no ID.
func (s Servers) detached(ctx context.Context, workspace string) (c Container, running bool, err error) {
	server, err := owner.ReadServer(workspace)
	switch {
	case errors.Is(err, owner.ErrNoServer):
		return c, false, nil
	case err != nil:
		return c, false, err
	case server.Host != s.Me.Host:
		c.Name = server.Host + ": " + server.Name
		return c, true, nil
	}
	all, err := s.List(ctx)
	for _, c := range all {
		// A copy of a workspace's folder has the file of a server that is not its own.
		if c.ID == server.Container && c.Running && c.Workspace() == workspace {
			return c, true, err
		}
	}
	return c, false, err
}

// hasServer is the error for a workspace that has a server, c. attended completes the sentence by whom the server is
// attended; it may be empty.
func (s Servers) hasServer(ctx context.Context, workspace string, c Container, attended string) error {
	c.Owner = owner.Kept // the process with the lock keeps it, or the server file
	health, hint := "", "use it, or stop it with `"+CommandIn(workspace, "stop")+"`"
	if h, err := s.Judge(ctx, c); err == nil && !h.OK() && h.State != NotJudged {
		health, hint = "; it is "+h.String(), h.Hint()
		if h.State == Starting {
			hint = untilItServes
		}
	}
	address := ""
	if addr := s.Address(c); addr != "" {
		address = ", grpc " + addr
	}
	return pipeline.Faultf(pipeline.Environment, hint, "%s has a server already: %s%s%s%s", workspace, c.Name, address,
		attended, health)
}

// Forget removes container and server file of the server that a workspace's server file names, and returns its name.
// found is false if there is no such file. The caller must have the [Lock]: then the server does not run. What it said
// is kept.
func (s Servers) Forget(ctx context.Context, workspace string) (name string, found bool, err error) {
	server, err := owner.ReadServer(workspace)
	if errors.Is(err, owner.ErrNoServer) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return server.Name, true, err
	}
	gone := Container{Summary: container.Summary{ID: server.Container, Name: server.Name}}
	if i := slices.IndexFunc(all, func(c Container) bool { return c.ID == server.Container }); i >= 0 {
		if all[i].Workspace() != workspace { // of the workspace that this one is a copy of
			return "", false, owner.RemoveServer(workspace)
		}
		gone = all[i]
	}
	return server.Name, true, errors.Join(s.remove(ctx, gone), owner.RemoveServer(workspace))
}
