package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
)

func (a *App) stopCommand() *cobra.Command {
	var f workspaceFlag
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the workspace's server",
		Long: `stop lets the server's requests in flight end, at most 35 s, and removes it. A server that answers a small
picture with errors, has no models or does not even say whether it is live has nothing to drain: it is ended at once.
One whose container is paused goes on, and drains. The server of another user or host is left alone: 3, and whose it
is.`,
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

func (a *App) stop(ctx context.Context, f workspaceFlag) error {
	workspace, err := f.find(ctx)
	if err != nil {
		return err
	}
	servers, err := a.servers(ctx)
	if err != nil {
		return err
	}
	stopped, err := servers.Stop(ctx, workspace, serving.StopObserver{
		Dead: func(name string, h serving.Health) {
			fmt.Fprintf(a.Stderr, "%s has nothing to drain: it is %s\n", name, h)
		},
		Resumed: func(name string) {
			fmt.Fprintln(a.Stderr, name, "is paused: it goes on, so that its requests in flight end")
		},
		Stopped: func(name string) { fmt.Fprintln(a.Stdout, "stopped", name) },
	})
	if err == nil && stopped == 0 {
		fmt.Fprintln(a.Stderr, "no server runs in", printable.Name(workspace))
	}
	return err
}
