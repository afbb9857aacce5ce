package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) restartCommand() *cobra.Command {
	var f workspaceFlag
	cmd := &cobra.Command{
		Use:   "restart",
		Short: "Stop the workspace's detached server, and serve what setup last built",
		Long: `restart lets the requests of the server in flight end, removes it, and starts another one in the background, at
the same ports and address: of what setup last built, as with the flags of setup, or else of what it served. Requests
that come in between are refused: reload is for those who cannot have that. Before the old one is stopped, what the new
one would be refused for is looked at, as weights that are gone, and what it lacks is made.

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
	if err := a.makeBeforehand(ctx, start); err != nil {
		return err
	}
	if err := a.stop(ctx, f); err != nil {
		return err
	}
	if err := a.execute(ctx, a.Stdout, a.Stderr, start); err != nil {
		fmt.Fprintf(a.Stderr, "%s is stopped, and `%s` starts another one\n", server.Name, a.asCalled(serving.Start(start)))
		return err
	}
	return nil
}

// execute does what the arguments of another command say, and has it write to out and errOut.
func (a *App) execute(ctx context.Context, out, errOut io.Writer, args []string) error {
	other := *a
	other.Stdout, other.Stderr = out, errOut
	root := other.Command() //nolint:contextcheck // commands get their context from cobra
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	a.engines, a.recording = other.engines, other.recording // which end with the command
	return err
}

// checkFlags refuses arguments that dalirun does not have: another version of dalirun may have recorded them.
func (a *App) checkFlags(start []string) error {
	cmd, flags, err := a.Command().Find(start)
	if err != nil || cmd.Name() != start[0] {
		return cmp.Or(err, fmt.Errorf("there is no command %q", start[0]))
	}
	return cmd.ParseFlags(flags)
}

// makeBeforehand refuses what serve would refuse before it starts anything, and makes what it would make, while the
// server is still there. The ports are those of the server, and so are not looked at.
func (a *App) makeBeforehand(ctx context.Context, start []string) error {
	without := func(flags ...string) []string {
		return slices.DeleteFunc(slices.Clone(start[1:]), func(arg string) bool {
			flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			return slices.Contains(flags, flag)
		})
	}
	var said bytes.Buffer
	plan := slices.Concat([]string{"plan", "--format=json"}, without("detach", "host"),
		[]string{"--http-port=0", "--grpc-port=0", "--metrics-port=0"})
	err := a.execute(ctx, &said, io.Discard, plan) // serve warns again
	if shown, ok := errors.AsType[*shownError](err); ok {
		return shown.err // it was shown to nobody
	}
	var planned report.Plan
	if err == nil {
		err = json.Unmarshal(said.Bytes(), &planned)
	}
	if err != nil || !lacksRepository(planned.Steps) {
		return err
	}
	setup := without(append(target.NeverUsed("setup"), "detach")...)
	return a.execute(ctx, io.Discard, a.Stderr, append([]string{"setup"}, setup...))
}

// lacksRepository says whether something has to be made of what a server serves.
func lacksRepository(planned []pipeline.Planned) bool {
	last := slices.IndexFunc(planned, func(s pipeline.Planned) bool { return s.Step == steps.IDAssembleRepository })
	return slices.ContainsFunc(planned[:last+1], func(s pipeline.Planned) bool {
		return s.Verdict.Kind == pipeline.WillRun || s.Verdict.Kind == pipeline.Depends
	})
}
