package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) setupCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Build the model repository",
		Long: `setup exports ResNet50 to ONNX, builds the TensorRT engine (gpu lane), serializes the DALI pipeline and lays
the model repository out. What was made before and still holds is reused. It prints where the model repository is: in
the workspace, or in the cache if the workspace's server serves another one, which reload replaces.`,
		Example: `  # on the GPU if there is one, else on the CPU
  dalirun setup

  # without the network: seeded weights, small images built here
  dalirun setup --accel cpu --images local --weights random:0

  # the tutorial's release
  dalirun setup --release 21.07 --opt-batch 1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := a.open(cmd.Context(), &r, o)
			if err != nil {
				return a.refused(err, o, report.Files{})
			}
			var folder string
			err = x.runner(func(ctx context.Context, made pipeline.Values) (err error) {
				for _, repository := range made { // the last step makes it alone
					if folder, err = x.keepBuilt(ctx, repository.Path); err != nil {
						return err
					}
				}
				x.sink.Emit(pipeline.Event{
					Run: x.runID, Time: time.Now().UTC(), Step: steps.IDAssembleRepository,
					Payload: result.Repository.New(folder),
				})
				return nil
			}).Run(cmd.Context(), x.steps(steps.IDAssembleRepository))
			return x.finish(err, x.print(err, o, func(out io.Writer) error {
				_, err := fmt.Fprintln(out, folder)
				return err
			}))
		},
	}
	r.flags(a, cmd)
	o.flags(cmd)
	return cmd
}

// keepBuilt takes what was built into the workspace, and returns the folder that has it. A server that runs goes on
// serving what it has in the workspace's own folder: then what was built is in the cache alone.
func (x *session) keepBuilt(ctx context.Context, repository string) (folder string, err error) {
	workspace := x.flags.folders.Workspace
	folder = owner.RepositoryPath(workspace)
	err = x.changeRepository(ctx, func() error {
		built, err := x.recordBuilt(ctx, repository)
		if err != nil {
			return err
		}
		server, served, err := x.servers.Served(ctx, workspace)
		if err != nil {
			return err
		}
		if !served {
			return owner.TakeRepository(ctx, workspace, repository)
		}
		if built.Repository != server.Repository {
			folder = repository
		}
		if built.ServesAnother(server) {
			x.warn("the server of this workspace goes on serving what it has, in " + owner.RepositoryPath(workspace) +
				": `" + serving.TakeCommand(workspace, server, built) + "` has it serve this")
		}
		return nil
	})
	return folder, err
}

// changeRepository calls change while no other process changes what is recorded as built, or what is served.
func (x *session) changeRepository(ctx context.Context, change func() error) error {
	lock, err := serving.LockRepository(ctx, x.flags.folders.Workspace)
	if err != nil {
		return err
	}
	return errors.Join(change(), lock.Release())
}

// recordBuilt records what was built, and keeps it in the cache until something else is.
func (x *session) recordBuilt(ctx context.Context, repository string) (owner.Built, error) {
	t := x.target
	t.Picture = target.Picture{} // what proves it need not be the same one
	text, err := json.Marshal(t)
	built := owner.Built{
		Run: x.runID, Time: time.Now().UTC(), Repository: repository, Target: text, Command: x.startAgain(),
		Arguments: steps.ServerArguments(t), Memory: x.flags.memory,
	}
	if err == nil {
		err = x.pinBuilt(ctx, built)
	}
	return built, err
}

func (x *session) pinBuilt(ctx context.Context, built owner.Built) error {
	workspace := x.flags.folders.Workspace
	return x.store.Pin(ctx, built.Repository, workspace, func() error { return owner.WriteBuilt(workspace, built) })
}

// refused ends a run that did not begin. Its reports say so, and with JSON on stdout a program finds one object there
// all the same.
func (a *App) refused(err error, o outputFlags, files report.Files) error {
	err = a.explainer().Explain(err)
	refusal := newCollector().NotBegun(err, time.Now())
	after := files.Write(refusal)
	if o.format == asJSON {
		after = errors.Join(refusal.WriteJSON(a.Stdout), after)
	}
	return a.show(errors.Join(err, a.explainer().Explain(after)), nil)
}

// print writes to stdout what came of a run that ended with err, in text only if it went well.
func (x *session) print(err error, o outputFlags, text func(io.Writer) error) error {
	switch {
	case o.format == asJSON:
		return x.collector.Report().WriteJSON(x.app.Stdout)
	case err == nil || errors.Is(err, parity.ErrOff): // figures that are off are worth a look
		return text(x.app.Stdout)
	default:
		return nil
	}
}
