package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/tune"
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
	t := &tuning{session: x, load: tune.NewLoad(f.objective, steps.EnsembleModel, x.target.Lane, f.budget), asks: f}
	x.target.Ports = anyPorts(x.target.Ports)
	err = x.runner(t.search).Run(ctx, x.steps(steps.IDVerify))
	if t.found == nil { // there was no search
		return x.finish(err, x.print(err, o, func(io.Writer) error { return nil }))
	}
	var written error
	if f.write && err == nil && len(t.found.Best) > 0 {
		names := flagNames(cmd.Root())
		if written = config.Write(ctx, config.File, names, flagvalue.ServingKeys(), t.found.Serving); written == nil {
			t.found.Written = config.File
			t.warnOverruled()
		}
	}
	if o.format == asJSON {
		return x.finish(err, t.found.WriteJSON(a.Stdout), written)
	}
	return x.finish(err, t.found.WriteText(a.Stdout, config.Block(t.found.Serving)), written)
}

// warnOverruled tells of a variable that goes before what was written.
func (t *tuning) warnOverruled() {
	variable := config.Variable(config.Section)
	if asked, named := t.flags.request.Settings.Find(config.Section); named && asked.From == variable {
		t.warn(variable + " goes before " + config.File + ": unset it, or what was found is not used")
	}
}

// anyPorts are free ones, whichever the container engine has: several servers stand at a time.
func anyPorts(p target.Ports) target.Ports {
	free := func(p container.Port) container.Port { return container.Port{Container: p.Container} }
	return target.Ports{HTTP: free(p.HTTP), GRPC: free(p.GRPC), Metrics: free(p.Metrics)}
}

// tuning is a search at work.
type tuning struct {
	*session
	asks  tuneFlags
	load  tune.Load
	cpus  int
	found *tune.Result // nil before the search
}

// search is called while the server of the start stands, which was verified.
func (t *tuning) search(ctx context.Context, proof pipeline.Values) error {
	info, err := t.probes.Runtime.Info(ctx)
	if err != nil {
		return err
	}
	t.cpus = info.CPUs
	began := time.Now()
	stays := func(context.Context) error { return nil } // the run stops it
	start, err := t.connect(ctx, proof, stays)
	if err != nil {
		return err
	}
	if t.load, err = t.load.Half(ctx, start); err != nil {
		return errors.Join(err, start.Stop(ctx))
	}
	start.Use(t.load)
	s := tune.Search{
		Knobs: tune.Knobs(t.target, t.cpus), Objective: t.load.Objective, Budget: t.asks.budget, Now: time.Now,
		Open: t.open, Told: t.tell,
		Opening: time.Since(began) + time.Duration(t.collector.Report().TimeToReadySeconds*float64(time.Second)),
	}
	outcome, err := s.Run(ctx, start)
	t.found = &tune.Result{
		Version: tune.Version, Program: version.This().Version, Lane: string(t.target.Lane), Load: t.load, Outcome: outcome,
	}
	asked, askedErr := t.asked(outcome.Best)
	t.found.Serving = flagvalue.ServingMap(asked)
	return errors.Join(err, askedErr, start.Stop(ctx), context.Cause(ctx))
}

// asked is what a user would ask for to have a setting.
func (t *tuning) asked(s tune.Setting) (target.Serving, error) {
	asked := t.flags.request.Serving
	if len(s) == 0 {
		return asked, nil
	}
	return asked, flagvalue.Serving(&asked).Set(s.Assignments())
}

// tell shows what ended as a line that stays, and what is under way as progress.
func (t *tuning) tell(text string, ended bool) {
	var payload pipeline.Payload = pipeline.Progress{Text: text}
	if ended {
		payload = pipeline.Line{Text: text}
	}
	t.sink.Emit(pipeline.Event{Run: t.runID, Time: time.Now().UTC(), Step: idTune, Payload: payload})
}

// open starts a server with a setting, and verifies it.
func (t *tuning) open(ctx context.Context, s tune.Setting) (tune.Server, error) {
	asked, err := t.asked(s)
	if err != nil {
		return nil, err
	}
	candidate := t.target
	candidate.Serving = target.DecideServing(asked, candidate, t.cpus)
	proof, stop, err := t.stand(ctx, steps.For(candidate, t.tools(), steps.IDVerify))
	if err != nil {
		return nil, err
	}
	server, err := t.connect(ctx, proof, stop)
	if err != nil {
		return nil, err
	}
	return server, nil
}

// stand runs steps and returns what the last one made while all that they started stands, until stop is called.
func (t *tuning) stand(
	ctx context.Context, list []pipeline.Step,
) (values pipeline.Values, stop func(context.Context) error, err error) {
	standing, over, ended := make(chan pipeline.Values, 1), make(chan struct{}), make(chan error, 1)
	runner := t.runner(func(ctx context.Context, values pipeline.Values) error {
		standing <- values
		select {
		case <-over:
		case <-ctx.Done():
		}
		return nil
	})
	runner.Sink = warnings{t.sink}
	go func() { ended <- runner.Run(ctx, list) }()
	stop = func(context.Context) error { // its end has a time of its own
		close(over)
		return <-ended
	}
	select {
	case values = <-standing:
		return values, stop, nil
	case err := <-ended:
		return nil, nil, err
	}
}

// warnings are all that is shown of a candidate's run: its steps are those of the run that it is part of.
type warnings struct{ to pipeline.Sink }

// Emit passes a warning on.
func (w warnings) Emit(e pipeline.Event) {
	if _, ok := e.Payload.(pipeline.Warning); ok {
		w.to.Emit(e)
	}
}

// connect returns the server that was verified, warmed up.
func (t *tuning) connect(
	ctx context.Context, proof pipeline.Values, stop func(context.Context) error,
) (*tune.Loaded, error) {
	server, err := t.runtime.Open(ctx, steps.Proven(proof))
	if err != nil {
		return nil, errors.Join(err, stop(ctx))
	}
	return tune.Connect(ctx, server, t.load, t.target.Picture.Data, stop)
}
