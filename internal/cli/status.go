package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/status"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/ui"
)

type statusFlags struct {
	workspaceFlag
	format format
	watch  bool
	every  time.Duration
}

func (a *App) statusCommand() *cobra.Command {
	f := statusFlags{every: 2 * time.Second}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the workspace's server is, what it serves, and what its models do",
		Long: `status sends the workspace's server a small picture, by which it is healthy or not, and shows since when it is
ready, what it serves, what was built since, where it is, and on the gpu lane the memory of its GPUs. It ends with 0 if
the server is healthy or busy, else with 5 and the command that mends it.

Of each model it shows what the server says of it. Requests, failures, the average batch and the milliseconds of a
request in the queue, in input, compute and output are since the model was loaded, with what dalirun itself asked by
status and ps; those of an ensemble are sums over its models. REQUESTS/S, and BUSY, the share of the time that the
instances were executing, are over the last second, for which status waits. What is executed counts when it ends: BUSY
of executions that take seconds is 0 now and more than 1 then.

With --watch it looks again every --interval, on a terminal in the same place, until the server is gone (5) or until
Ctrl-C (130). With --format json it writes one object, and with --watch one a line. Its keys stay what they are as long
as its version does; times are in seconds there, sizes in bytes and shares from 0 to 1.`,
		Example: `  dalirun status

  # as it changes
  dalirun status --watch

  # how busy the instances of each model are, a line for each look
  dalirun status --watch --format json | jq -c '[.models[] | {name, busy: .figures.busy}]'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.warnUnused(cmd)
			return a.status(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	formatFlag(cmd, &f.format)
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "look again and again")
	cmd.Flags().Var(flagvalue.Duration(&f.every, time.Second, time.Hour), "interval",
		"with --watch: from one look to the next")
	return cmd
}

func (a *App) status(ctx context.Context, f statusFlags) error {
	workspace, err := f.find(ctx)
	if err != nil {
		return err
	}
	servers, err := a.servers(ctx)
	if err != nil {
		return err
	}
	place := status.Place{Servers: servers, Workspace: workspace, Window: status.UsualWindow}
	if f.watch {
		return a.watchStatus(ctx, place, f)
	}
	s, err := place.Look(ctx)
	if err != nil {
		return err
	}
	a.callable(&s)
	if err := f.format.write(a.Stdout, s, s.WriteText); err != nil {
		return err
	}
	if err := s.Fault(); err != nil {
		return &shownError{err} // the result has it
	}
	return nil
}

// watchStatus shows the status again and again. Each time it is shown whole or not at all.
func (a *App) watchStatus(ctx context.Context, place status.Place, f statusFlags) error {
	screen := ui.NewScreen(a.Stdout, ui.Terminal{})
	if terminal := ui.NewScreen(a.screen, a.terminalAt(a.screen)); terminal.InPlace() {
		screen = terminal
	}
	err := place.Watch(ctx, f.every, func(s status.Status) error {
		if a.stdoutGone() {
			return io.EOF // nobody reads on
		}
		a.callable(&s)
		if f.format == asJSON {
			return stdout.WriteJSONLine(a.Stdout, s)
		}
		var text strings.Builder
		if err := s.WriteText(&text); err != nil {
			return err
		}
		return screen.Draw(text.String())
	})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// callable writes the commands of dalirun in a status as this user can paste them.
func (a *App) callable(s *status.Status) {
	s.Health.Mend, s.Health.Reason = a.asCalled(s.Health.Mend), a.asCalled(s.Health.Reason)
	if s.Built != nil {
		s.Built.Command = a.asCalled(s.Built.Command)
	}
	for i := range s.Findings {
		s.Findings[i].Text = a.asCalled(s.Findings[i].Text)
	}
}
