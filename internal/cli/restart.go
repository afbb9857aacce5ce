package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
)

func (a *App) restartCommand() *cobra.Command {
	var f workspaceFlag
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "Stop the workspace's detached server, and serve what setup last built",
		Long: `restart lets the requests of the server in flight end, removes it, and starts another one in the background, at
the same ports and address: of what setup last built, as with the flags of setup, or else of what it served. Requests
that come in between are refused: reload is for those who cannot have that. What a new server would be refused for, as
weights that are gone, is looked at before the old one is stopped.

A server that a ` + "`dalirun serve`" + ` in the foreground attends is left alone: 3. Who started that, a person or
systemd, restarts it.`,
		Example: `  dalirun setup --release 25.03
  dalirun restart`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.warnUnused(cmd)
			return a.restart(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	return cmd
}

func (a *App) restart(ctx context.Context, f workspaceFlag) error {
	workspace, err := f.find(ctx)
	if err != nil {
		return err
	}
	server, err := owner.ReadServer(workspace)
	if errors.Is(err, owner.ErrNoServer) {
		kind := pipeline.NotReady
		if servers, err := a.servers(ctx); err == nil {
			if _, served, err := servers.Served(ctx, workspace); err == nil && served {
				kind = pipeline.Environment
			}
		}
		return pipeline.Faultf(kind, "`"+serving.CommandIn(workspace, "serve")+
			" --detach` starts one; who started a `dalirun serve` in the foreground restarts that",
			"%s has no detached server", workspace)
	}
	if err != nil {
		return err
	}
	built, err := owner.ReadBuilt(workspace)
	if err != nil && !errors.Is(err, owner.ErrNothingBuilt) {
		return err
	}
	start := serving.StartAgain(server, built)
	if len(start) == 0 {
		return pipeline.Faultf(pipeline.Environment, "stop it with `"+owner.StopCommand(workspace)+"`, and serve again",
			"nothing says how %s was started", server.Name)
	}
	if !slices.Contains(start, "--detach") {
		start = append(start, "--detach")
	}
	if err := a.checkFlags(start); err != nil { //nolint:contextcheck // commands get their context from cobra
		return pipeline.Faultf(pipeline.Environment, "stop it with `"+owner.StopCommand(workspace)+"`, and serve again",
			"%s was started in a way that this dalirun does not know, by `%s`: %w", server.Name, serving.Start(start), err)
	}
	if err := a.checkStart(ctx, start); err != nil {
		return err
	}
	if err := a.stop(ctx, f); err != nil {
		return err
	}
	root := a.Command() //nolint:contextcheck // commands get their context from cobra
	root.SetArgs(start)
	return root.ExecuteContext(ctx)
}

// checkFlags refuses arguments that dalirun does not have: another version of dalirun may have recorded them.
func (a *App) checkFlags(start []string) error {
	cmd, flags, err := a.Command().Find(start)
	if err != nil || cmd.Name() != start[0] {
		return cmp.Or(err, fmt.Errorf("there is no command %q", start[0]))
	}
	return cmd.ParseFlags(flags)
}

// checkStart refuses what serve would refuse before it starts anything, while the server is still there: its plan is
// asked. The ports are those of the server, and so are not looked at.
func (a *App) checkStart(ctx context.Context, start []string) error {
	planned := []string{"plan"}
	for _, arg := range start[1:] {
		if flag, _, _ := strings.Cut(arg, "="); !slices.Contains([]string{"--detach", "--host"}, flag) {
			planned = append(planned, arg)
		}
	}
	planner := *a
	planner.Stdout, planner.Stderr = io.Discard, io.Discard
	root := planner.Command() //nolint:contextcheck // commands get their context from cobra
	root.SetArgs(append(planned, "--http-port=0", "--grpc-port=0", "--metrics-port=0"))
	err := root.ExecuteContext(ctx)
	a.engines = planner.engines // which are closed when the command ends
	if shown, ok := errors.AsType[*shownError](err); ok {
		return shown.err // it was shown to nobody
	}
	return err
}
