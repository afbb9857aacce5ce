package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/printable"
)

type logsFlags struct {
	workspaceFlag
	options container.LogOptions
}

func (a *App) logsCommand() *cobra.Command {
	f := logsFlags{options: container.LogOptions{Tail: container.AllLines}}
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what the workspace's server wrote",
		Long: `logs prints what the workspace's server has written to its stdout and its stderr, both on stdout: the server
that runs, else the one that ran last, that of e2e too, of which stderr tells when it ended or wrote its last line. It
ends with 5 where no server has run.

With --follow it goes on until the server ends or until Ctrl-C, SIGTERM or SIGHUP, and ends with 0 either way.

While the server's container is there, the container engine has what it wrote, 100 MiB at most, the newest. Of a server
whose container is gone, the folder of its run in runs/ has serve.log: of one in the foreground 32 MiB at most; of a
detached one, and of one whose dalirun was killed, the last 10,000 lines, 4 MiB at most, which stop, gc and the next run
keep as they remove the container.`,
		Example: `  dalirun logs

  # what comes, after the last 20 lines
  dalirun logs --follow --tail 20

  # since a time, or of the last ten minutes
  dalirun logs --since 2026-08-23T10:15:00Z
  dalirun logs --since 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.warnUnused(cmd)
			return a.logs(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	cmd.Flags().BoolVarP(&f.options.Follow, "follow", "f", false, "go on until the server ends")
	cmd.Flags().Var(flagvalue.LineCount(&f.options.Tail), "tail", "of the lines that there are, only the last so many")
	cmd.Flags().Var(flagvalue.Time(&f.options.Since), "since",
		"only lines since a time, or so long ago: 2026-08-23T10:15:00Z, 10m")
	return cmd
}

func (a *App) logs(ctx context.Context, f logsFlags) error {
	workspace, err := f.find(ctx)
	if err != nil {
		return err
	}
	servers, err := a.servers(ctx)
	if err != nil {
		return err
	}
	err = servers.Logs(ctx, workspace, f.options, func(l container.LogLine) error {
		if a.stdoutGone() {
			return io.EOF // nobody reads on
		}
		_, err := fmt.Fprintln(a.Stdout, printable.Line(l.Text))
		return err
	}, func(text string) { fmt.Fprintln(a.Stderr, printable.Line(text)) })
	if f.options.Follow && ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil //nolint:nilerr // that it was to end is no failure
	}
	return err
}
