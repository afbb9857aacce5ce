package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) serveCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	var detach bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the model repository with tritonserver until Ctrl-C",
		Long: `serve does what setup does, starts tritonserver, loads every model, lets the ensemble answer once and says
where the server is. It then follows the server's log. Ctrl-C lets requests in flight end, removes the server and ends
with 0; a second Ctrl-C ends at once. A workspace has one server: where there is one already, healthy or not, serve ends
with 3.

Every 10 s the server is sent a small picture. If it is found three times on end not to be healthy, serve says why,
removes it and ends with 5. A busy server is a healthy one: that others are answered counts, and an answer may take
30 s.

Started by systemd from a unit with Type=notify, serve tells it when the server is ready, while a reload replaces the
models, and when it begins to stop; with WatchdogSec=, it also tells it that it is not hung.

The server is published on 127.0.0.1, for this host alone. --host names another address of the host where containers
run, such as 0.0.0.0 for all that it has. Triton has no authentication: whoever reaches its ports may use, load and
unload models. Where containers run on another host, or dalirun runs in a container itself, 127.0.0.1 is not here: serve
says so, and classify finds its way nevertheless.`,
		Example: `  # until Ctrl-C
  dalirun serve

  # in the background, until dalirun stop
  dalirun serve --detach
  dalirun classify cat.jpg
  dalirun stop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !detach {
				o.follow = steps.IDServe
			}
			x, err := a.open(cmd.Context(), &r, o)
			if err != nil {
				return err
			}
			return x.finish(x.serve(cmd.Context(), detach, o.format))
		},
	}
	r.flags(a, cmd)
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave the server running")
	return cmd
}

// startAgain are the arguments that start the same server from another folder.
func (x *session) startAgain() []string {
	f := x.flags
	args := append([]string{"serve", "--workspace=" + f.folders.Workspace}, f.folders.CacheFlags()...)
	picture, err := filepath.Abs(f.image)
	if about, statErr := os.Stat(picture); err != nil || statErr != nil || !about.Mode().IsRegular() {
		picture = "" // it came through a pipe
	}
	return append(args, f.request.ServeArguments(x.target, picture)...)
}

// serve runs until the server is ready and, unless it is detached, until it is asked to stop, ends by itself or is not
// healthy.
func (x *session) serve(ctx context.Context, detach bool, format format) error {
	workspace := x.flags.folders.Workspace
	name, found, err := x.servers.Forget(ctx, workspace)
	if found {
		x.warn("the server " + name + " is gone: it is forgotten")
	}
	if err != nil {
		return err
	}
	var server owner.ServerFile
	writeAddresses := func() error {
		return format.write(x.app.Stdout, server, func(w io.Writer) error { return serving.WriteAddresses(w, server) })
	}
	ready := func(_ context.Context, s result.Server) error {
		server = x.serverFile(s)
		server.Command = x.startAgain()
		if !detach {
			if err := owner.NoteServer(workspace, server); err != nil {
				x.warn(err.Error())
			}
			return nil
		}
		return serving.HandOver(workspace, server, writeAddresses)
	}
	repository := func(ctx context.Context, stored string) (string, error) {
		built, err := x.built(stored)
		if err != nil {
			return "", err
		}
		return x.repository().Take(ctx, built)
	}
	tools := x.tools()
	tools.Handover = &steps.Handover{Repository: repository, Ready: ready, Detach: detach}
	list := steps.For(x.target, tools, steps.IDServe)
	manager := &serviceManager{} // of a detached server there is none: its dalirun is gone
	if !detach {
		manager = x.app.serviceManager(x.warn)
		defer afterSignal(ctx, func() { manager.stopping(ctx) })() // in any step
	}
	err = x.runner(func(ctx context.Context, _ pipeline.Values) error {
		if detach {
			return nil
		}
		if err := writeAddresses(); err != nil {
			return err
		}
		err := x.servers.Attend(ctx, workspace, server, x.app.watch, manager.supervision(ctx, server), x.warn)
		steps.KeepStatistics(context.WithoutCancel(ctx), tools, server.Container) // the last ones
		return err
	}).Run(ctx, list)
	if server.Run != "" && !detach {
		if err := serving.NoteEnd(workspace, server); err != nil {
			x.warn(err.Error())
		}
	}
	return err
}

// afterSignal calls do once ctx ends. What it returns keeps it from that, and waits if it is being done.
func afterSignal(ctx context.Context, do func()) (stop func()) {
	done := make(chan struct{})
	keep := context.AfterFunc(ctx, func() {
		defer close(done)
		do()
	})
	return func() {
		if !keep() {
			<-done
		}
	}
}

func (x *session) serverFile(s result.Server) owner.ServerFile {
	file := owner.ServerFile{
		Container: s.Container, Name: s.Name, Run: x.runID, Host: x.me.Host,
		GRPC: s.GRPC.String(), HTTP: s.HTTP.String(), Metrics: s.Metrics.String(), Repository: s.Repository,
		Image: s.Image, GPUs: x.target.GPUNames(), Driver: x.target.Device.Driver, Engine: x.servers.Elsewhere,
		Models: s.Models, Arguments: steps.ServerArguments(x.target), Started: time.Now().UTC(), Served: x.served(),
	}
	if !x.probes.Runtime.Remote() {
		file.GPUUUIDs = x.target.GPUUUIDs
	}
	return file
}

// served is what this run's target says of what answers requests.
func (x *session) served() owner.Served {
	facts := x.facts()
	return owner.Served{
		Lane: facts[report.FactLane], Source: facts[report.FactImages], Release: facts[report.FactRelease],
		Precision: facts[report.FactPrecision], Weights: facts[report.FactWeights],
		LabelsMeanNothing: new(x.target.Weights.Kind == target.Random),
	}
}

// lockWorkspace makes this process the one that serves the workspace, until [session.close].
func (x *session) lockWorkspace(ctx context.Context) (err error) {
	if x.serveLock == nil {
		x.serveLock, err = x.servers.Lock(ctx, x.flags.folders.Workspace)
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
