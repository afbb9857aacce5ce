package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/steps"
)

// process is a row of ps.
type process struct {
	Name      string    `json:"name"`
	Step      string    `json:"step"`
	Run       string    `json:"run"`
	Workspace string    `json:"workspace"`
	Running   bool      `json:"running"`
	Owner     string    `json:"owner"` // alive, dead, foreign, expired or unknown
	Why       string    `json:"why"`
	GRPC      string    `json:"grpc,omitempty"`
	Created   time.Time `json:"created"`
}

func (a *App) psCommand() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the containers of dalirun, of all workspaces",
		Example: `  dalirun ps
  dalirun ps --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.processes(cmd.Context())
			if err != nil {
				return err
			}
			if format.value == "json" {
				return writeJSON(a.Stdout, rows)
			}
			return writeProcesses(a.Stdout, rows, time.Now())
		},
	}
	format = formatFlag(cmd)
	return cmd
}

func (a *App) processes(ctx context.Context) ([]process, error) {
	runtime, err := a.answering(ctx)
	if err != nil {
		return nil, err
	}
	me, err := owner.Here(time.Now())
	if err != nil {
		return nil, err
	}
	all, err := runtime.List(ctx, ownLabels())
	if err != nil {
		return nil, err
	}
	rows := make([]process, 0, len(all))
	for _, c := range all {
		state, why := owner.Verdict(c.Labels, me)
		row := process{
			Name: c.Name, Step: c.Labels[container.LabelStep], Run: c.Labels[container.LabelRun],
			Workspace: c.Labels[container.LabelWorkspace], Running: c.Running, Owner: string(state), Why: why, Created: c.Created,
		}
		if addr, ok := c.Ports[steps.PortGRPC]; ok {
			row.GRPC = addr.String()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func writeProcesses(w io.Writer, rows []process, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTEP\tSTATE\tOWNER\tGRPC\tAGE\tWORKSPACE")
	for _, r := range rows {
		state := "ended"
		if r.Running {
			state = "running"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, printable.Line(r.Step), state, r.Owner, r.GRPC, now.Sub(r.Created).Round(time.Second), printable.Name(r.Workspace))
	}
	return t.Flush()
}
