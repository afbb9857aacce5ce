package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

func (a *App) serveCommand() *cobra.Command {
	w := wishes{serves: true, stays: true}
	var s shown
	var detach bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the model repository with tritonserver until Ctrl-C",
		Long: `serve does what setup does, starts tritonserver, loads every model, lets the ensemble answer once and says where the
server is. It then follows the server's log. Ctrl-C lets requests in flight end, removes the server and ends with 0; a
second Ctrl-C ends at once. A workspace has one server: where there is one already, healthy or not, serve ends with 3.

Every 10 s the server is sent a small picture. If it is found three times on end not to be healthy, serve says why, removes
it and ends with 5. A busy server is a healthy one: that others are answered counts, and an answer may take 30 s.`,
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
			return x.finish(x.serve(cmd.Context(), detach, s.format.value, startAgain(&w, x.options.Options)))
		},
	}
	w.flags(a, cmd)
	s.flags(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave the server running")
	return cmd
}

// startAgain are the arguments that start the same server from another folder. They have what the command line, the environment and the
// configuration asked of the run with these options, and the cache wherever the environment put it; what nobody asked for is left to the
// defaults there. What the run had no use for is not
// among them: on a command line it may be an error. Nor is a picture to verify with that came through a pipe, and is gone.
func startAgain(w *wishes, run steps.Options) []string {
	args := append([]string{"serve", "--workspace=" + w.workspace}, cacheArgument(w.cache)...)
	drop := w.situation(run.Lane, run.Images).of(w.stepsOf(run)).useless()
	w.set.Visit(func(f *pflag.Flag) { // those of the environment and of the configuration are set too
		value := f.Value.String()
		switch f.Name {
		case "workspace", "cache-dir", "force", "format", "progress", "verbose": // of the one run, or there already
			return
		case "image":
			path, err := filepath.Abs(value)
			if info, statErr := os.Stat(path); err != nil || statErr != nil || !info.Mode().IsRegular() {
				return
			}
			value = path
		case "weights":
			if source, _, err := w.weightsSource(); err == nil && source.Kind == steps.File {
				value = source.Path
			}
		}
		if slices.ContainsFunc(drop, func(u uselessFlag) bool { return u.flag == f.Name }) {
			return
		}
		if f.Value.Type() == "bool" && value == "true" {
			args = append(args, "--"+f.Name)
			return
		}
		args = append(args, "--"+f.Name+"="+value)
	})
	return args
}

// serve runs until the server is ready and, unless it is detached, until it is asked to stop, ends by itself or is not
// healthy. again are the arguments that start it again.
func (x *session) serve(ctx context.Context, detach bool, format string, again []string) error {
	if err := x.forgetServer(ctx); err != nil {
		return err
	}
	x.options.Drain, x.options.Detach = true, detach
	m := x.machine()
	var server owner.ServerFile
	m.Ready = func(ctx context.Context, ready steps.Server) error {
		server = x.serverFile(ready)
		server.Command = again
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
		return x.attend(ctx, server)
	}).Run(ctx, list)
}

// attend returns nil when ctx ends or somebody stopped the server in good order, and why the server is of no use any more. It
// kills one that has nothing to drain, which the end of the run would wait for.
func (x *session) attend(ctx context.Context, server owner.ServerFile) error {
	watch, err := x.app.watchFor()
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	sick := x.watch(inner, watch, server.GRPC)
	ended := make(chan error, 1)
	go func() { ended <- waitForEnd(inner, x.runtime, server.Container) }()
	select {
	case h := <-sick:
		if ctx.Err() != nil {
			break
		}
		if h.State == serving.Silent && !x.stands(ctx, server.Container) {
			return <-ended // of a server that is gone, how it ended says more
		}
		fault := pipeline.Faultf(pipeline.NotReady, "`"+serving.Start(server.Command)+"` starts it again", "the server %s is %s", server.Name, h)
		return errors.Join(fault, x.kill(ctx, server.Container))
	case err := <-ended:
		if ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	last := context.WithoutCancel(ctx) // it was asked to stop; how the server is decides how that is done
	if h, err := judgeAt(last, server.GRPC, stopWithin); err != nil || h.Drains() {
		return err
	}
	return x.kill(last, server.Container)
}

// stands says whether a container is there and runs.
func (x *session) stands(ctx context.Context, id string) bool {
	all, err := x.runtime.List(ctx, owner.Labels())
	return err != nil || slices.ContainsFunc(all, func(c container.Summary) bool { return c.ID == id && c.Running })
}

// watch gets the health of a server that is found not to work, until ctx ends. That nobody can look any more is a warning: the server may be well.
func (x *session) watch(ctx context.Context, watch serving.Watch, addr string) <-chan serving.Health {
	sick := make(chan serving.Health, 1)
	go func() {
		h, err := watch.Wait(ctx, addr)
		switch {
		case err == nil:
			sick <- h
		case ctx.Err() == nil:
			x.warn("whether the server is healthy is not watched any more: " + err.Error())
		}
	}()
	return sick
}

// kill ends a container at once. Its removal is left to the end of the run.
func (x *session) kill(ctx context.Context, id string) error {
	c, err := x.runtime.Open(ctx, id)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Stop(ctx, 0)
}

func (x *session) serverFile(s steps.Server) owner.ServerFile {
	facts := x.options.facts()
	return owner.ServerFile{
		Container: s.Container, Name: s.Name, Run: x.runID, Host: x.me.Host,
		GRPC: s.GRPC.String(), HTTP: s.HTTP.String(), Metrics: s.Metrics.String(),
		Lane: facts[report.FactLane], Source: facts[report.FactImages], Release: facts[report.FactRelease],
		Precision: facts[report.FactPrecision], Weights: facts[report.FactWeights], Repository: s.Repository,
		Models: s.Models, Started: time.Now().UTC(), LabelsMeanNothing: new(x.options.Weights.Kind == steps.Random),
	}
}

func showServer(w io.Writer, s owner.ServerFile, format string) error {
	if format == "json" {
		return writeJSON(w, s)
	}
	_, err := fmt.Fprintf(w, "ready: grpc %s · http %s · metrics %s\n", s.GRPC, s.HTTP, s.Metrics)
	return err
}

// only makes this process the one that serves the workspace, until [session.free]. It refuses that where the workspace has a server.
func (x *session) only(ctx context.Context) error {
	if x.alone != nil {
		return nil
	}
	workspace := x.wishes.workspace
	alone := flock.New(serveLock(workspace))
	free, err := alone.TryLock()
	if err != nil {
		return pipeline.Faultf(pipeline.Environment, "name another --workspace, or look what is in the way of that file", "lock the workspace: %w", err)
	}
	if !free {
		servers, err := serversOf(ctx, x.runtime, workspace)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(servers, func(c container.Summary) bool { return c.Running }); i >= 0 {
			return x.hasServer(ctx, servers[i], ", of another `dalirun serve`")
		}
		return pipeline.Faultf(pipeline.Environment, untilItServes,
			"another `dalirun serve` is at work in %s", workspace)
	}
	x.alone = alone
	server, err := owner.ReadServer(workspace)
	switch {
	case errors.Is(err, owner.ErrNoServer):
		return nil
	case err != nil:
		return err
	case server.Host != x.me.Host:
		return pipeline.Faultf(pipeline.Environment, "stop it there, or name another --workspace",
			"%s has a server on another host, %s: %s", workspace, server.Host, server.Name)
	}
	all, err := x.runtime.List(ctx, owner.Labels())
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.ID == server.Container && c.Running {
			return x.hasServer(ctx, c, "")
		}
	}
	return nil
}

// untilItServes is what to do about another `dalirun serve` that is at work in the workspace.
const untilItServes = "wait until it serves, end it with Ctrl-C, or name another --workspace"

// free lets another process serve the workspace. It may be called twice.
func (x *session) free() error {
	if x.alone == nil {
		return nil
	}
	return x.alone.Unlock()
}

// hasServer is that a server cannot be started beside the one that the workspace has; of says whose that is, where a process attends it.
func (x *session) hasServer(ctx context.Context, c container.Summary, of string) error {
	said, hint := "", "use it, or stop it with `"+commandIn(x.wishes.workspace, "stop")+"`"
	if h, err := x.app.healthOf(ctx, c, owner.Kept); err == nil && !h.OK() {
		said, hint = "; it is "+h.String(), mends(h)
		if h.State == serving.Starting {
			hint = untilItServes
		}
	}
	at := ""
	if addr, ok := c.Ports[triton.PortGRPC]; ok {
		at = ", grpc " + addr.String()
	}
	return pipeline.Faultf(pipeline.Environment, hint, "%s has a server already: %s%s%s%s", x.wishes.workspace, c.Name, at, of, said)
}

// forgetServer removes what is left of a server that the server file names. [session.only] found that it does not run.
func (x *session) forgetServer(ctx context.Context) error {
	server, err := owner.ReadServer(x.wishes.workspace)
	if errors.Is(err, owner.ErrNoServer) {
		return nil
	}
	if err != nil {
		return err
	}
	x.warn("the server " + server.Name + " is gone: it is forgotten")
	return errors.Join(x.runtime.Remove(ctx, server.Container), owner.RemoveServer(x.wishes.workspace))
}

// serveLock is held by the process that serves a workspace.
func serveLock(workspace string) string { return filepath.Join(workspace, "serve.lock") }

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
