package serving

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"

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
	lock := &Lock{flock.New(LockPath(workspace))}
	free, err := lock.file.TryLock()
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

// IfUnserved calls take if no server of a workspace runs or is about to be started, and keeps others from starting one
// meanwhile. It reports whether it did.
func (s Servers) IfUnserved(ctx context.Context, workspace string, take func() error) (bool, error) {
	lock, err := s.Lock(ctx, workspace)
	if errors.Is(err, errServed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(take(), lock.Release())
}

// errServed says that a workspace has a server, or that one is about to be started in it.
var errServed = errors.New("the workspace is served")

// servedError is an errServed with its own text.
type servedError struct{ error }

// Is implements the interface of [errors.Is].
func (servedError) Is(target error) bool { return target == errServed }

// servedf returns the fault of a workspace that is served.
func servedf(hint, format string, args ...any) error {
	return &pipeline.Fault{Kind: pipeline.Environment, Hint: hint, Err: servedError{fmt.Errorf(format, args...)}}
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
	return servedf(untilItServes, "another `dalirun serve` is at work in %s", workspace)
}

// refuseSecond returns an error if a workspace that no process serves has a detached server.
func (s Servers) refuseSecond(ctx context.Context, workspace string) error {
	server, err := owner.ReadServer(workspace)
	switch {
	case errors.Is(err, owner.ErrNoServer):
		return nil
	case err != nil:
		return err
	case server.Host != s.Me.Host:
		return servedf("stop it there, or name another --workspace",
			"%s has a server on another host, %s: %s", workspace, server.Host, server.Name)
	}
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.ID == server.Container && c.Running {
			return s.hasServer(ctx, workspace, c, "")
		}
	}
	return nil
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
	return servedf(hint, "%s has a server already: %s%s%s%s", workspace, c.Name, address,
		attended, health)
}

// Forget removes container and server file of the server that a workspace's server file names, and returns its name.
// found is false if there is no such file. The caller must have the [Lock]: then the server does not run.
func (s Servers) Forget(ctx context.Context, workspace string) (name string, found bool, err error) {
	server, err := owner.ReadServer(workspace)
	if errors.Is(err, owner.ErrNoServer) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return server.Name, true, errors.Join(s.Runtime.Remove(ctx, server.Container), owner.RemoveServer(workspace))
}
