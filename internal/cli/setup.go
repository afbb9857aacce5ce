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
	"github.com/dalirun/dalirun/internal/record"
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
			err = x.runner(func(ctx context.Context, made pipeline.Values) error {
				steps.KeepConfigurations(x.tools(), steps.Assembled(made))
				built, err := x.built(steps.Assembled(made))
				if err != nil {
					return err
				}
				if folder, err = x.repository().Keep(ctx, built); err != nil {
					return err
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
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	return cmd
}

// repository is what the workspace has of model repositories.
func (x *session) repository() serving.Repository {
	return serving.Repository{Servers: x.servers, Workspace: x.flags.folders.Workspace, Pins: x.store}
}

// built is the record of a model repository in the cache that this run made.
func (x *session) built(repository string) (owner.Built, error) {
	t := x.target
	t.Picture = target.Picture{} // what proves it need not be the same one
	text, err := json.Marshal(t)
	return owner.Built{
		Run: x.runID, Time: time.Now().UTC(), Repository: repository, Target: text, Command: x.startAgain(),
		Arguments: steps.ServerArguments(t), Memory: x.flags.memory, MaxBatch: t.MaxBatch, Served: x.served(),
		Image: steps.ServerImage(t, x.tools()), Ensemble: t.Names().Ensemble,
	}, err
}

// refused ends a run that did not begin. Its reports say so, and with JSON on stdout a program finds one object there
// all the same.
func (a *App) refused(err error, o outputFlags, files report.Files) error {
	err = a.explainer().Explain(err)
	refusal := newCollector().NotBegun(err, time.Now())
	if a.recording != nil {
		a.recording.AddJSON(record.ReportFile, refusal)
	}
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
