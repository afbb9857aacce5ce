package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// The range of --gpu-wait, and what it is unless it is named. A build takes 78 s on an H100, and many minutes on small
// GPUs; a bench with a baseline, or a tune, takes as long as it was told to.
const (
	usualGPUWait = 20 * time.Minute
	mostGPUWait  = 24 * time.Hour
)

func gpuWaitFlag(cmd *cobra.Command, value *time.Duration) {
	*value = usualGPUWait
	cmd.Flags().Var(flagvalue.Duration(value, 0, mostGPUWait), "gpu-wait",
		"how long to wait for a GPU on which another job of this host builds or measures; 0 is not at all")
}

// leases are those of this host's GPUs.
func (a *App) leases() host.Leases {
	if a.leaseFolder != "" {
		return host.Leases{Folder: a.leaseFolder}
	}
	return host.SharedLeases()
}

// holder is how this process calls itself where it has a GPU's lease.
func (a *App) holder(command, workspace string) host.Holder {
	h := host.Holder{PID: os.Getpid(), Command: "dalirun " + command, Workspace: workspace}
	h.Host, _ = os.Hostname() // it is for people
	if me, err := user.Current(); err == nil {
		h.User = me.Username
	} else {
		h.User = "uid " + strconv.Itoa(os.Getuid())
	}
	return h
}

// gpuTurn has one job at a time build and measure on the GPUs of the run. It is nil where those are not this host's.
func (x *session) gpuTurn() *steps.GPUTurn {
	if x.target.Lane != target.GPU || x.probes.Runtime.Remote() {
		return nil
	}
	me := x.app.holder(x.flags.request.Command, x.flags.folders.Workspace)
	me.Run = x.runID
	return &steps.GPUTurn{
		Leases: x.app.leases(), GPUs: x.target.Chosen, Me: me, Wait: x.flags.gpuWait, Clear: x.sweepContainers,
	}
}

// neighbours returns the programs that compute on the run's GPUs and are not in containers of the workspace.
func (x *session) neighbours(ctx context.Context) ([]host.Process, error) {
	containers, err := x.runtime.List(ctx, container.Labels{container.LabelWorkspace: x.flags.folders.Workspace})
	if err != nil {
		return nil, err
	}
	var own []string
	for _, c := range containers {
		if c.Running {
			own = append(own, c.ID)
		}
	}
	return x.app.system().Neighbours(ctx, x.target.Chosen, own)
}

// benchTurn waits until no other job builds or measures on the GPUs of a workspace's server, which are known by their
// UUIDs.
func (a *App) benchTurn(
	ctx context.Context, workspace string, uuids []string, wait time.Duration,
) (release func(), err error) {
	turn := &steps.GPUTurn{Leases: a.leases(), Me: a.holder("bench", workspace), Wait: wait}
	for _, uuid := range uuids {
		turn.GPUs = append(turn.GPUs, host.GPU{Index: -1, UUID: uuid})
	}
	return turn.Take(ctx, "measures a server", func(p pipeline.Payload) {
		switch p := p.(type) {
		case pipeline.Warning:
			warn(a.Stderr, p.Text)
		case pipeline.Progress:
			fmt.Fprintln(a.Stderr, printable.Line(p.Text))
		}
	})
}
