package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) serveCommand() *cobra.Command {
	w := wishes{serves: true}
	var s shown
	var detach bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the model repository with tritonserver until Ctrl-C",
		Long: `serve does what setup does, starts tritonserver, loads every model, lets the ensemble answer once and says where the
server is. It then follows the server's log. Ctrl-C lets requests in flight end, removes the server and ends with 0; a
second Ctrl-C ends at once. A workspace has one server.`,
		Example: `  # until Ctrl-C
  dalirun serve

  # in the background, until dalirun stop
  dalirun serve --detach
  dalirun classify cat.jpg
  dalirun stop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !detach {
				s.follow = steps.IDServe
			}
			x, err := a.open(cmd.Context(), &w, s)
			if err != nil {
				return err
			}
			return x.finish(x.serve(cmd.Context(), detach, s.format.value))
		},
	}
	w.flags(a, cmd)
	s.flags(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave the server running")
	return cmd
}

// serve runs until the server is ready and, unless it is detached, until it is asked to stop or ends by itself.
func (x *session) serve(ctx context.Context, detach bool, format string) error {
	alone, err := x.only(ctx)
	if err != nil {
		return err
	}
	defer alone.Unlock() //nolint:errcheck // it ends with the process
	x.options.Drain, x.options.Detach = true, detach
	m := x.machine()
	var server owner.ServerFile
	m.Ready = func(ctx context.Context, ready steps.Server) error {
		server = x.serverFile(ready)
		if !detach {
			if err := owner.NoteServer(x.wishes.workspace, server); err != nil {
				x.warn(err.Error())
			}
			return nil
		}
		return x.store.Pin(ctx, ready.Repository, x.wishes.workspace, func() error { return owner.WriteServer(x.wishes.workspace, server) })
	}
	list := steps.For(x.options.Options, m, steps.IDServe)
	return x.runner(func(ctx context.Context, _ pipeline.Values) error {
		if err := showServer(x.app.Stdout, server, format); err != nil || detach {
			return err
		}
		return waitForEnd(ctx, x.runtime, server.Container)
	}).Run(ctx, list)
}

func (x *session) serverFile(s steps.Server) owner.ServerFile {
	facts := x.options.facts()
	return owner.ServerFile{
		Container: s.Container, Name: s.Name, Run: x.runID, Host: x.me.Host,
		GRPC: s.GRPC.String(), HTTP: s.HTTP.String(), Metrics: s.Metrics.String(),
		Lane: facts[report.FactLane], Source: facts[report.FactImages], Release: facts[report.FactRelease],
		Precision: facts[report.FactPrecision], Weights: facts[report.FactWeights], Repository: s.Repository,
		Models: s.Models, Started: time.Now().UTC(),
	}
}

func showServer(w io.Writer, s owner.ServerFile, format string) error {
	if format == "json" {
		return writeJSON(w, s)
	}
	_, err := fmt.Fprintf(w, "ready: grpc %s · http %s · metrics %s\n", s.GRPC, s.HTTP, s.Metrics)
	return err
}

// only makes this process the workspace's one that serves, and finds a server that another one left.
func (x *session) only(ctx context.Context) (*flock.Flock, error) {
	alone := flock.New(serveLock(x.wishes.workspace))
	free, err := alone.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the workspace: %w", err)
	}
	if !free {
		return nil, pipeline.Faultf(pipeline.Environment, "stop it with Ctrl-C or `dalirun stop`, or name another --workspace",
			"another `dalirun serve` is at work in %s", x.wishes.workspace)
	}
	server, err := owner.ReadServer(x.wishes.workspace)
	if errors.Is(err, owner.ErrNoServer) {
		return alone, nil
	}
	if err != nil {
		return nil, errors.Join(err, alone.Unlock())
	}
	if server.Host != x.me.Host {
		err := pipeline.Faultf(pipeline.Environment, "stop it there, or name another --workspace",
			"%s has a server on another host, %s: %s", x.wishes.workspace, server.Host, server.Name)
		return nil, errors.Join(err, alone.Unlock())
	}
	if running, err := isRunning(ctx, x.runtime, server.Container); err != nil || running {
		if err == nil {
			err = pipeline.Faultf(pipeline.Environment, "use it, or stop it with `dalirun stop`",
				"%s has a server already: %s, grpc %s", x.wishes.workspace, server.Name, server.GRPC)
		}
		return nil, errors.Join(err, alone.Unlock())
	}
	x.warn("the server " + server.Name + " is gone: it is forgotten")
	return alone, errors.Join(x.runtime.Remove(ctx, server.Container), owner.RemoveServer(x.wishes.workspace))
}

// serveLock is held by the process that serves a workspace.
func serveLock(workspace string) string { return filepath.Join(workspace, "serve.lock") }

func isRunning(ctx context.Context, runtime container.Runtime, id string) (bool, error) {
	all, err := runtime.List(ctx, ownLabels())
	for _, c := range all {
		if c.ID == id {
			return c.Running, err
		}
	}
	return false, err
}

// waitForEnd returns nil when ctx ends or somebody stopped the server in good order.
func waitForEnd(ctx context.Context, runtime container.Runtime, id string) error {
	var exit container.Exit
	c, err := runtime.Open(ctx, id)
	if err == nil {
		exit, err = c.Wait(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // that it was asked to stop is no failure
	case errors.Is(err, container.ErrNotFound): // `dalirun stop` removes it
		return nil
	case err != nil:
		return err
	case exit.OOM:
		return pipeline.Faultf(pipeline.NotReady, "", "tritonserver was killed for memory")
	case exit.Code != 0 && removedSoon(ctx, runtime, id):
		return nil
	case exit.Code != 0:
		return pipeline.Faultf(pipeline.NotReady, "its log says why", "tritonserver exited with status %d", exit.Code)
	default:
		return nil
	}
}

// removedSoon says whether somebody is about to remove a container that ended, as `dalirun stop` does: tritonserver exits
// with 1 if a client kept its connection while it drained.
func removedSoon(ctx context.Context, runtime container.Runtime, id string) bool {
	const soon = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	tick := time.NewTicker(soon / 20)
	defer tick.Stop()
	for {
		if _, err := runtime.Open(ctx, id); errors.Is(err, container.ErrNotFound) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
