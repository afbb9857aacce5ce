package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trial"
	"github.com/dalirun/dalirun/internal/tune"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/internal/version"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// idTune stands in events of the search, which is no step: it runs several servers.
const idTune pipeline.ID = "tune"

// The range of --budget.
const (
	leastBudget = time.Second
	mostBudget  = 24 * time.Hour
)

type tuneFlags struct {
	objective tune.Objective
	budget    time.Duration
	write     bool
}

func (a *App) tuneCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	f := tuneFlags{objective: tune.Throughput, budget: 5 * time.Minute}
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Look for what lets this machine's server do more",
		Long: `tune does what e2e does, and then looks for settings of --serving with which the server does more on this
machine: on the gpu lane DALI's instances and their threads, the size of a batch and the JPEG engine's share, on the cpu
lane threads, the size of a batch and instances. It turns one at a time, from what a run would have anyway, twice round.

Each candidate is a server of its own, which has to pass e2e's comparison with PyTorch. It is measured against the best
so far in 8 to 24 pairs, first the one, then the other: a machine that becomes slower does so for both. A candidate is
better only if the pairs say so: 3 % or more, and so far above their noise that it happens to less than one in 100 that
are no better. What was found is proven once more against the beginning, and is dropped if that fails. Where nothing is
found, that is the result: what there was stays.

--objective throughput counts pictures a second of a server that has as many requests as it can take (8 at a time on
the cpu lane, 512 on the gpu lane); --objective latency takes the median latency at half of that rate.

--budget is how long the search takes; what e2e does comes before it. After Ctrl-C stdout has what was proven until
then, and the exit code is 130.

Stdout has the block for dalirun.yaml, and the table that proves it as comments below it. --write puts the values into
dalirun.yaml and changes nothing else there. Let the machine do nothing else meanwhile: noise hides what there is to
gain, and another server's memory is not there.`,
		Example: `  # five minutes, then keep what was found
  dalirun tune --write

  # what lets single requests be answered sooner, with every measurement
  dalirun tune --objective latency --budget 20m --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tune(cmd, &r, o, f)
		},
	}
	r.flags(a, cmd)
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	cmd.Flags().Var(flagvalue.Choice(&f.objective, tune.Objectives()...), "objective", "what is to become better")
	cmd.Flags().Var(flagvalue.Duration(&f.budget, leastBudget, mostBudget), "budget", "how long to search")
	cmd.Flags().BoolVar(&f.write, "write", false, "put what was found into "+config.File)
	return cmd
}

func (a *App) tune(cmd *cobra.Command, r *runFlags, o outputFlags, f tuneFlags) error {
	ctx := cmd.Context()
	o.follow = idTune
	x, err := a.open(ctx, r, o)
	if err != nil {
		return a.refused(err, o, report.Files{})
	}
	var found *tune.Result // nil before the search
	err = x.runner(func(ctx context.Context, proof pipeline.Values) (err error) {
		found, err = x.search(ctx, f, steps.Proven(proof))
		return err
	}).Run(ctx, x.steps(steps.IDVerify))
	if found == nil {
		return x.finish(err, x.print(err, o, func(io.Writer) error { return nil }))
	}
	var written error
	if f.write && err == nil {
		var warning string
		if warning, written = writeFound(ctx, flagNames(cmd.Root()), r.request.Settings, found); warning != "" {
			x.warn(warning)
		}
	}
	if o.format == asJSON {
		return x.finish(err, found.WriteJSON(a.Stdout), written)
	}
	return x.finish(err, found.WriteText(a.Stdout, config.Block(found.Serving)), written)
}

// search looks for better settings while the server of the start, which was verified, stands in the container start.
func (x *session) search(ctx context.Context, f tuneFlags, start string) (*tune.Result, error) {
	info, err := x.probes.Runtime.Info(ctx)
	if err != nil {
		return nil, err
	}
	release, err := x.gpuTurn().Take(ctx, "measures servers", func(p pipeline.Payload) {
		x.sink.Emit(pipeline.Event{Run: x.runID, Time: time.Now().UTC(), Step: idTune, Payload: p})
	})
	if err != nil {
		return nil, err
	}
	defer release()
	tools := x.tools()
	tools.GPUTurn = nil // it has its turn: what is built now waits for nobody
	tuning := trial.Tuning{
		Target: x.target, Asked: x.flags.request.Serving, CPUs: info.CPUs, Budget: f.budget,
		Load: tune.NewLoad(f.objective, x.target.Names().Ensemble, x.target.Lane, f.budget),
		Stand: func(ctx context.Context, t target.Target, then func(context.Context, string) error) error {
			runner := x.runner(func(ctx context.Context, proof pipeline.Values) error {
				return then(ctx, steps.Proven(proof))
			})
			runner.Sink = ui.WarningsOnly(x.sink) // its steps are those of the run that it is part of
			return runner.Run(ctx, steps.For(t, tools, steps.IDVerify))
		},
		Open: x.runtime.Open, Progress: x.showTuning,
	}
	ready := time.Duration(x.collector.Report().TimeToReadySeconds * float64(time.Second))
	found, err := tuning.Search(ctx, start, ready)
	if found != nil {
		found.Program = version.This().Version
	}
	return found, err
}

// showTuning shows what ended as a line that stays, and what is under way as progress.
func (x *session) showTuning(text string, ended bool) {
	var payload pipeline.Payload = pipeline.Progress{Text: text}
	if ended {
		payload = pipeline.Line{Text: text}
	}
	x.sink.Emit(pipeline.Event{Run: x.runID, Time: time.Now().UTC(), Step: idTune, Payload: payload})
}

// writeFound writes what was found, if that is anything, into the file that settings come from. The warning, if there
// is one, is of a variable that goes before it.
func writeFound(
	ctx context.Context, flags []string, settings target.Settings, found *tune.Result,
) (warning string, err error) {
	if len(found.Best) == 0 {
		return "", nil
	}
	if err := config.Write(ctx, config.File, flags, flagvalue.ServingKeys(), found.Serving); err != nil {
		return "", err
	}
	found.Written = config.File
	variable := config.Variable(config.Section)
	if asked, named := settings.Find(config.Section); named && asked.From == variable {
		warning = variable + " goes before " + config.File + ": unset it, or what was found is not used"
	}
	return warning, nil
}
