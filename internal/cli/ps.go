package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
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

	// Health is that of a server of this host, and what it serves is nil where nobody noted it, as before it is ready.
	Health *serving.Health `json:"health,omitempty"`
	*served
}

// served says what answers the requests that a server gets.
type served struct {
	Lane              string `json:"lane"`   // gpu or cpu
	Source            string `json:"source"` // image source: ngc or local
	Release           string `json:"release,omitempty"`
	Precision         string `json:"precision,omitempty"`
	Weights           string `json:"weights"`
	LabelsMeanNothing bool   `json:"labels_mean_nothing"`
}

func (a *App) psCommand() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the containers of dalirun, of all workspaces",
		Long: `ps lists the containers of dalirun, whose they are, and whether servers are healthy: each one is sent a small picture,
all at a time. A server is healthy if it answers within 10 s, and busy if it answers others meanwhile. Of one that is not healthy
ps says why, and which command mends it.`,
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
	rows := make([]process, len(all))
	var judged sync.WaitGroup
	for i, c := range all {
		state, why := owner.Verdict(c.Labels, me)
		rows[i] = process{
			Name: c.Name, Step: c.Labels[container.LabelStep], Run: c.Labels[container.LabelRun],
			Workspace: c.Labels[container.LabelWorkspace], Running: c.Running, Owner: string(state), Why: why, Created: c.Created,
		}
		if addr, ok := c.Ports[steps.PortGRPC]; ok {
			rows[i].GRPC = addr.String()
		}
		if !isServer(c) || state == owner.Foreign { // whose loopback address is another one
			continue
		}
		rows[i].served = servedBy(c)
		judged.Go(func() {
			if h, err := healthOf(ctx, c, state); err == nil {
				rows[i].Health = &h
			}
		})
	}
	judged.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return rows, nil
}

func servedBy(c container.Summary) *served {
	s, err := recordOf(c)
	if err != nil {
		return nil
	}
	return &served{
		Lane: s.Lane, Source: s.Source, Release: s.Release, Precision: s.Precision, Weights: s.Weights, LabelsMeanNothing: s.LabelsMeanNothing(),
	}
}

func writeProcesses(w io.Writer, rows []process, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTEP\tSTATE\tOWNER\tGRPC\tAGE\tHEALTH\tLANE\tIMAGES\tWEIGHTS\tWORKSPACE")
	for _, r := range rows {
		state, health := "ended", ""
		if r.Running {
			state = "running"
		}
		if r.Health != nil {
			health, _, _ = strings.Cut(r.Health.String(), ":")
		}
		var s served
		if r.served != nil {
			s = *r.served
		}
		if s.LabelsMeanNothing {
			s.Weights += " (labels mean nothing)"
		}
		fmt.Fprintln(t, strings.Join([]string{
			r.Name, r.Step, state, r.Owner, r.GRPC, now.Sub(r.Created).Round(time.Second).String(), health, s.Lane, s.Source, s.Weights, r.Workspace,
		}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Health == nil || r.Health.State == serving.Healthy {
			continue
		}
		fmt.Fprintf(w, "\n%s is %s\n", r.Name, r.Health)
		if r.Health.Mend != "" {
			fmt.Fprintf(w, "  %s\n", r.Health.Mend)
		}
	}
	return nil
}
