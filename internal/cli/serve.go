package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) serveCommand() *cobra.Command {
	w := wishes{serves: true, stays: true}
	var s shown
	var detach bool
	on := address{container.Port{}.On()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the model repository with tritonserver until Ctrl-C",
		Long: `serve does what setup does, starts tritonserver, loads every model, lets the ensemble answer once and says where the
server is. It then follows the server's log. Ctrl-C lets requests in flight end, removes the server and ends with 0; a
second Ctrl-C ends at once. A workspace has one server: where there is one already, healthy or not, serve ends with 3.

Every 10 s the server is sent a small picture. If it is found three times on end not to be healthy, serve says why, removes
it and ends with 5. A busy server is a healthy one: that others are answered counts, and an answer may take 30 s.

The server is published on 127.0.0.1, for this host alone. --host names another address of the host where containers run,
such as 0.0.0.0 for all that it has. Triton has no authentication: whoever reaches its ports may use, load and unload models.
Where containers run on another host, or dalirun runs in a container itself, 127.0.0.1 is not here: serve says so, and
classify finds its way nevertheless.`,
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
			for _, p := range []*container.Port{&x.options.HTTP, &x.options.GRPC, &x.options.Metrics} {
				p.Address = on.Addr
			}
			return x.finish(x.serve(cmd.Context(), detach, s.format.value, startAgain(&w, x.options.Options)))
		},
	}
	w.flags(a, cmd)
	s.flags(cmd)
	cmd.Flags().Var(&on, "host", "address to publish the server on, which has no authentication")
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
	name, found, err := x.servers.Forget(ctx, x.wishes.workspace)
	if found {
		x.warn("the server " + name + " is gone: it is forgotten")
	}
	if err != nil {
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
		return x.servers.Attend(ctx, x.wishes.workspace, server, x.app.watch, x.warn)
	}).Run(ctx, list)
}

func (x *session) serverFile(s steps.Server) owner.ServerFile {
	facts := x.options.facts()
	return owner.ServerFile{
		Container: s.Container, Name: s.Name, Run: x.runID, Host: x.me.Host,
		GRPC: s.GRPC.String(), HTTP: s.HTTP.String(), Metrics: s.Metrics.String(),
		Lane: facts[report.FactLane], Source: facts[report.FactImages], Release: facts[report.FactRelease],
		Precision: facts[report.FactPrecision], Weights: facts[report.FactWeights], Repository: s.Repository,
		Engine: x.servers.Elsewhere, Models: s.Models, Started: time.Now().UTC(), LabelsMeanNothing: new(x.options.Weights.Kind == steps.Random),
	}
}

func showServer(w io.Writer, s owner.ServerFile, format string) error {
	if format == "json" {
		return writeJSON(w, s)
	}
	addresses := fmt.Sprintf("grpc %s · http %s · metrics %s", s.GRPC, s.HTTP, s.Metrics)
	if s.Engine == "" {
		_, err := fmt.Fprintf(w, "ready: %s\n", addresses)
		return err
	}
	_, err := fmt.Fprintf(w, "ready: on the container engine's host, %s: %s\n", s.Engine, addresses)
	if at, parseErr := netip.ParseAddrPort(s.GRPC); parseErr == nil && at.Addr().IsLoopback() {
		_, err = fmt.Fprintln(w, "here `dalirun classify` reaches it; `dalirun serve --host ADDRESS` publishes it for others")
	}
	return err
}

// lockWorkspace makes this process the one that serves the workspace, until [session.close].
func (x *session) lockWorkspace(ctx context.Context) (err error) {
	if x.serveLock == nil {
		x.serveLock, err = x.servers.Lock(ctx, x.wishes.workspace)
	}
	return err
}

// unlockWorkspace lets another process serve the workspace. It may be called twice.
func (x *session) unlockWorkspace() error {
	if x.serveLock == nil {
		return nil
	}
	return x.serveLock.Release()
}
