package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) stopCommand() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the workspace's server",
		Long:  `stop lets the server's requests in flight end, at most 35 s, and removes it.`,
		Example: `  dalirun stop

  # the server of another project
  dalirun stop --workspace ../other/.dalirun`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.stop(cmd.Context(), p) },
	}
	p.flags(a, cmd)
	return cmd
}

func (a *App) stop(ctx context.Context, p place) error {
	if err := p.resolve(); err != nil {
		return err
	}
	runtime, err := a.answering(ctx)
	if err != nil {
		return err
	}
	servers, err := serversOf(ctx, runtime, p.workspace)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := stopServer(ctx, runtime, s.ID); err != nil {
			return fmt.Errorf("stop %s: %w", s.Name, err)
		}
		fmt.Fprintln(a.Stdout, "stopped", s.Name)
	}
	if err := owner.RemoveServer(p.workspace); err != nil {
		return err
	}
	if len(servers) == 0 {
		fmt.Fprintln(a.Stderr, "no server runs in", printable.Name(p.workspace))
	}
	return nil
}

// stopServer drains and removes a server.
func stopServer(ctx context.Context, runtime container.Runtime, id string) error {
	c, err := runtime.Open(ctx, id)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, steps.DrainGrace+5*time.Second)
	defer cancel()
	stopErr := c.Stop(limit, steps.DrainGrace)
	if ctx.Err() != nil {
		return context.Cause(ctx) // it is still the workspace's server
	}
	return errors.Join(stopErr, runtime.Remove(ctx, id))
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
		if addr, ok := s.Ports[steps.PortGRPC]; ok && s.Running {
			return s, addr.String(), nil
		}
	}
	return container.Summary{}, "", pipeline.Faultf(pipeline.NotReady, "start one with `dalirun serve`, or name one with --url HOST:PORT", "no server runs in %s", workspace)
}
