package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

func (a *App) stopCommand() *cobra.Command {
	var f workspaceFolder
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the workspace's server",
		Long: `stop lets the server's requests in flight end, at most 35 s, and removes it. A server that answers a small picture with
errors, has no models or does not even say whether it is live has nothing to drain: it is ended at once. The server of another user or
host is left alone: 3, and whose it is.`,
		Example: `  dalirun stop

  # the server of another project
  dalirun stop --workspace ../other/.dalirun`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.warnUnused(cmd)
			return a.stop(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	return cmd
}

func (a *App) stop(ctx context.Context, f workspaceFolder) error {
	if err := f.resolve(); err != nil {
		return err
	}
	runtime, err := a.answering(ctx)
	if err != nil {
		return err
	}
	servers, err := serversOf(ctx, runtime, f.workspace)
	if err != nil {
		return err
	}
	// Whatever could keep it from being done whole is asked before anything is done.
	if err := a.refuseStop(ctx, runtime, f.workspace, servers); err != nil {
		return err
	}
	for _, s := range servers {
		if err := a.stopServer(ctx, runtime, s); err != nil {
			return fmt.Errorf("stop %s: %w", s.Name, err)
		}
		fmt.Fprintln(a.Stdout, "stopped", s.Name)
	}
	if err := owner.RemoveServer(f.workspace); err != nil {
		return err
	}
	if len(servers) == 0 {
		fmt.Fprintln(a.Stderr, "no server runs in", printable.Name(f.workspace))
		return nil
	}
	return awaitServe(ctx, f.workspace)
}

// refuseStop refuses to stop a server of another host or user. Of another user this one could remove the container and not
// what belongs to it.
func (a *App) refuseStop(ctx context.Context, runtime container.Runtime, workspace string, own []container.Summary) error {
	me, err := owner.Here(time.Now())
	if err != nil {
		return err
	}
	var runs []string
	for _, s := range own {
		runs = append(runs, s.Labels[container.LabelRun])
	}
	command := serving.StopCommand(workspace)
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
	case err == nil && file.Host != "" && file.Host != me.Host:
		return pipeline.Faultf(pipeline.Environment, "run `"+command+"` there",
			"the server of %s, %s, was started on another host, %s: nothing is stopped", workspace, file.Name, file.Host)
	}
	if len(own) > 0 {
		return nil
	}
	all, err := runtime.List(ctx, container.Labels{container.LabelWorkspace: workspace, container.LabelRole: string(container.RoleServer)})
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Running {
			return pipeline.Faultf(pipeline.Environment, "run `"+command+"` there",
				"%s serves a workspace of this path, %s, for another host, %s: nothing is stopped", s.Name, workspace, s.Labels[container.LabelHost])
		}
	}
	return nil
}

// stopServer drains and removes a server. One that is not healthy has nothing to drain, and Triton would wait 30 s for it.
func (a *App) stopServer(ctx context.Context, runtime container.Runtime, s container.Summary) error {
	c, err := runtime.Open(ctx, s.ID)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	grace := steps.DrainGrace
	h, err := judge(ctx, s, stopWithin)
	if err != nil {
		return err
	}
	if !h.Drains() {
		grace = 0
		if s.Running {
			fmt.Fprintf(a.Stderr, "%s has nothing to drain: it is %s\n", s.Name, h)
		}
	}
	limit, cancel := context.WithTimeout(ctx, grace+5*time.Second)
	defer cancel()
	stopErr := c.Stop(limit, grace)
	if ctx.Err() != nil {
		return context.Cause(ctx) // it is still the workspace's server
	}
	return errors.Join(stopErr, runtime.Remove(ctx, s.ID))
}

// awaitServe waits until a foreground serve that lost its server has ended, so that the next one finds the workspace free.
func awaitServe(ctx context.Context, workspace string) error {
	const soon = 10 * time.Second
	if _, err := os.Stat(serveLock(workspace)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, soon,
		pipeline.Faultf(pipeline.Environment, "end it with Ctrl-C", "the server is stopped, and a `dalirun serve` of %s has not ended after %s", workspace, soon))
	defer cancel()
	alone := flock.New(serveLock(workspace))
	if _, err := alone.TryLockContext(ctx, soon/200); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("wait for `dalirun serve` to end: %w", err)
	}
	return alone.Unlock()
}

// serversOf lists the servers of a workspace of this host. Those that e2e makes for itself are none.
func serversOf(ctx context.Context, runtime container.Runtime, workspace string) ([]container.Summary, error) {
	me, err := owner.Here(time.Now())
	if err != nil {
		return nil, err
	}
	return runtime.List(ctx, container.Labels{
		container.LabelWorkspace: workspace, container.LabelRole: string(container.RoleServer), container.LabelHost: me.Host,
	})
}

// runningServer returns the workspace's server and its gRPC address.
func runningServer(ctx context.Context, runtime container.Runtime, workspace string) (server container.Summary, grpc string, err error) {
	servers, err := serversOf(ctx, runtime, workspace)
	if err != nil {
		return container.Summary{}, "", err
	}
	for _, s := range servers {
		if addr, ok := s.Ports[triton.PortGRPC]; ok && s.Running {
			return s, addr.String(), nil
		}
	}
	return container.Summary{}, "", pipeline.Faultf(pipeline.NotReady, "start one with `"+commandIn(workspace, "serve")+"`, or name one with --url HOST:PORT", "no server runs in %s", workspace)
}

// commandIn is a command of dalirun for a workspace: for that of the current project without a flag.
func commandIn(workspace, command string) string {
	if usual, err := filepath.Abs(owner.DefaultWorkspace); err == nil && workspace == usual {
		return serving.Start([]string{command})
	}
	return serving.Start([]string{command, "--workspace", workspace})
}
