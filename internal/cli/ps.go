package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
)

func (a *App) psCommand() *cobra.Command {
	var form format
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the containers of dalirun, of all workspaces",
		Long: `ps lists the containers of dalirun, whose they are, and whether servers are healthy: each one is sent a small
picture, all at a time. Of one that is not healthy ps says why, and which command mends it. It ends with 0 whatever it
finds.

STATE is running, paused, ended, or created where a server is about to run. OWNER says what becomes of a container, in
JSON with the reason:

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
			return serving.WriteProcesses(a.Stdout, rows, time.Now())
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
	fmt.Fprintf(&b, "  %-12s\n%s", serving.NotHealthy, strings.Join(wrong, ""))
	return strings.TrimSuffix(b.String(), "\n")
}

func (a *App) processes(ctx context.Context) ([]serving.Process, error) {
	servers, err := a.servers(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := servers.Processes(ctx)
	for _, r := range rows {
		if r.Health != nil {
			r.Health.Mend = a.asCalled(r.Health.Mend)
		}
	}
	return rows, err
}
