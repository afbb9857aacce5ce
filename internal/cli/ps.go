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
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
)

// process is a row of ps.
type process struct {
	Name      string    `json:"name"`
	Step      string    `json:"step"`
	Run       string    `json:"run"`
	Workspace string    `json:"workspace"`
	Running   bool      `json:"running"`
	Owner     string    `json:"owner"` // an owner.State
	Why       string    `json:"why"`
	GRPC      string    `json:"grpc,omitempty"`
	Created   time.Time `json:"created"`

	// Health is that of a server of this host. What it serves is empty where nobody noted it, as before it is ready.
	Health *serving.Health `json:"health,omitempty"`
	served
}

func (a *App) psCommand() *cobra.Command {
	var form format
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the containers of dalirun, of all workspaces",
		Long: `ps lists the containers of dalirun, whose they are, and whether servers are healthy: each one is sent a small picture,
all at a time. Of one that is not healthy ps says why, and which command mends it. It ends with 0 whatever it finds.

STATE is running, ended, or created where a server is about to run. OWNER says what becomes of a container, in JSON with the reason:

` + psOwners() + `
HEALTH is that of a server of this host, by whether it answers within 10 s; in JSON the state says what is not healthy:

` + psHealth(),
		Example: `  dalirun ps
  dalirun ps --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.processes(cmd.Context())
			if err != nil {
				return err
			}
			if form == asJSON {
				return stdout.WriteJSON(a.Stdout, rows)
			}
			if len(rows) == 0 {
				fmt.Fprintln(a.Stderr, "no container of dalirun is there")
				return nil
			}
			return writeProcesses(a.Stdout, rows, time.Now())
		},
	}
	formatFlag(cmd, &form)
	return cmd
}

// psOwners are the words of OWNER, a line each.
func psOwners() string {
	var b strings.Builder
	for _, s := range owner.States() {
		fmt.Fprintf(&b, "  %-12s %s\n", s.State, s.Means)
	}
	return b.String()
}

// psHealth are the words of HEALTH, a line each, and after that of each state in which something is wrong its own.
func psHealth() string {
	var b strings.Builder
	var wrong []string
	for _, s := range serving.States() {
		if s.State.Word() == serving.NotHealthy {
			wrong = append(wrong, fmt.Sprintf("    %-10s %s\n", s.State, s.Means))
			continue
		}
		fmt.Fprintf(&b, "  %-12s %s\n", s.State, s.Means)
	}
	fmt.Fprintf(&b, "  %-12s it could not be found out\n", serving.NotJudged)
	fmt.Fprintf(&b, "  %-12s\n%s", serving.NotHealthy, strings.Join(wrong, ""))
	return strings.TrimSuffix(b.String(), "\n")
}

func (a *App) processes(ctx context.Context) ([]process, error) {
	servers, err := a.servers(ctx)
	if err != nil {
		return nil, err
	}
	all, err := servers.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]process, len(all))
	var judged sync.WaitGroup
	for i, c := range all {
		rows[i] = process{
			Name: c.Name, Step: c.Labels[container.LabelStep], Run: c.Run(), Workspace: c.Workspace(), Running: c.Running,
			Owner: string(c.Owner), Why: c.Why, GRPC: servers.Address(c), Created: c.Created,
		}
		if !servers.RunsTriton(c) || c.Owner == owner.Foreign { // whose loopback address is another one
			continue
		}
		if file, err := c.File(); err == nil {
			rows[i].served = servedBy(file)
		}
		judged.Go(func() {
			h := judgedOrWhyNot(servers.Judge(ctx, c))
			h.Mend = a.asCalled(h.Mend)
			rows[i].Health = &h
		})
	}
	judged.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return rows, nil
}

// judgedOrWhyNot is the health of a server, or why it is not known.
func judgedOrWhyNot(h serving.Health, err error) serving.Health {
	if err != nil {
		return serving.Health{State: serving.NotJudged, Reason: err.Error()}
	}
	return h
}

func writeProcesses(w io.Writer, rows []process, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTEP\tSTATE\tOWNER\tGRPC\tAGE\tHEALTH\tLANE\tIMAGES\tWEIGHTS\tWORKSPACE")
	for _, r := range rows {
		state, health := "ended", "" // of what is no server of this host
		switch {
		case r.Running:
			state = "running"
		case r.Health != nil && r.Health.State == serving.Starting:
			state = "created"
		}
		if r.Health != nil {
			health = r.Health.State.Word()
		}
		s := r.served
		if s.LabelsMeanNothing != nil && *s.LabelsMeanNothing {
			s.Weights += " (" + labelsMeanNothing + ")"
		}
		fmt.Fprintln(t, strings.Join([]string{
			r.Name, printable.Line(r.Step), state, r.Owner, r.GRPC, now.Sub(r.Created).Round(time.Second).String(), health, s.Lane, s.Source,
			printable.Line(s.Weights), printable.Name(r.Workspace),
		}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Health == nil || r.Health.State == serving.Healthy {
			continue
		}
		fmt.Fprintf(w, "\n%s is %s\n", r.Name, printable.Line(r.Health.String()))
		if r.Health.MendNote != "" {
			fmt.Fprintf(w, "  %s:\n", printable.Line(r.Health.MendNote))
		}
		if r.Health.Mend != "" {
			fmt.Fprintf(w, "  %s\n", r.Health.Mend)
		}
	}
	return nil
}
