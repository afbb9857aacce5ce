package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/trial"
	"github.com/dalirun/dalirun/internal/version"
	"github.com/dalirun/dalirun/steps"
)

type benchFlags struct {
	workspaceFlag
	request trial.Request
	format  format
	gpuWait time.Duration
	files   report.Files
}

func (a *App) benchCommand() *cobra.Command {
	f := benchFlags{request: trial.Request{
		Ensemble: usualEnsemble(), MaxInFlight: 1024, Batch: 1, Connections: 4,
		MaxRegression: 0.05, Program: version.This().Version,
	}}
	q := &f.request
	cmd := &cobra.Command{
		Use:   "bench [IMAGE|FOLDER...]",
		Short: "Load a running server, measure it, and name the stage that limits",
		Long: `bench sends pictures to the workspace's running server, or to any Triton server at --url whose model takes a
picture as its one input, and prints what its clients see: requests and pictures a second, percentiles of the latency,
errors by class, what the client itself took of its CPU, the server's own account of each model, and which stage limits,
with its figures. Without IMAGE or FOLDER the picture that dalirun carries is sent, of 600 x 400 pixels; several are
sent in turn.

A closed loop has as many requests in flight as --concurrency says, each client sending its next one when the last was
answered. In an open loop --rate requests a second are due at times that are drawn in advance, whatever the server does,
and a latency counts from when its request was due: so what a stall keeps waiting shows. One that is due while
--max-in-flight are under way is not sent, and is counted as skipped. Each load takes --duration; with --rate alone
there is no closed loop. Each has a warm-up: full batches for instances on a GPU.

--save-baseline FILE runs all loads five times in turn and saves the figures. --baseline FILE compares with them: a
figure that is worse by more than --max-regression has the loads run again, up to five times, and only if each run was
worse than each of the baseline's it is confirmed: that ends with 7. Figures of another GPU, driver, server image, lane,
model, pictures or loads are refused with 2. Of a server at --url none of that is known: it is compared with itself,
by its address.

Requests that fail are figures. No answer at all to a load, and a server that is gone at the end, are 5. A server of the
workspace whose log says that its pool of GPU memory is full is told of. After Ctrl-C what was measured until then is
printed, and it ends with 130.`,
		Example: `  dalirun bench

  # with a folder's pictures, as many at a time as 256
  dalirun bench --concurrency 1,16,256 photos

  # as users come who do not wait for each other: 20 and 40 a second
  dalirun bench --rate 20,40 --duration 30s

  # in CI: first on the branch that is released, then on each change
  dalirun bench --save-baseline bench.json
  dalirun bench --baseline bench.json --max-regression 5% --html bench.html`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.warnUnused(cmd)
			q.Pictures, q.Settings, q.Model = args, settingsOf(cmd.Flags()), askedModel(cmd.Flags())
			return a.bench(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	formatFlag(cmd, &f.format)
	gpuWaitFlag(cmd, &f.gpuWait)
	flags := cmd.Flags()
	flags.StringVar(&q.URL, "url", "", "gRPC address of a server, HOST:PORT (default the workspace's)")
	flags.StringVar(&q.Model, "model", "",
		"model to ask (default the one that the workspace's server has for clients, and "+usualEnsemble()+" with --url)")
	flags.Var(flagvalue.Concurrency(&q.Concurrency), "concurrency",
		"requests at a time, a closed loop for each number (default 1,8,64, and of models on the CPU 1,8)")
	flags.Var(flagvalue.Rates(&q.Rates), "rate", "requests that are due in a second, an open loop for each number")
	flags.Var(flagvalue.Int(&q.MaxInFlight, 1, 1<<16), "max-in-flight", "requests that an open loop has in flight at most")
	flags.Var(flagvalue.Int(&q.Batch, 1, 256), "batch", "pictures in a request, each time one of them so often")
	flags.Var(flagvalue.Int(&q.Connections, 1, 256), "connections", "connections that requests are spread over")
	flags.DurationVar(&q.Duration, "duration", 10*time.Second, "how long requests are sent for each load")
	flags.DurationVar(&q.Timeout, "timeout", 30*time.Second, "how long one answer may take")
	flags.StringVar(&q.Save, "save-baseline", "", "run five times, and save the figures in this file")
	flags.StringVar(&q.Baseline, "baseline", "", "compare with the figures in this file")
	flags.Var(flagvalue.Percentage(&q.MaxRegression), "max-regression",
		"by how much a figure may be worse than the baseline's")
	flags.StringVar(&f.files.HTML, "html", "", "write an HTML report to this file")
	return cmd
}

// bench prints what was measured, also before an error.
func (a *App) bench(ctx context.Context, f benchFlags) error {
	sample, err := steps.Sample()
	if err != nil {
		return err
	}
	f.request.Sample = sample.Data
	reads := map[string]string{"--baseline": f.request.Baseline, "--save-baseline": f.request.Save}
	if err := f.files.Make(reads); err != nil {
		return err // before minutes of work, not after
	}
	result, err := trial.Trial{
		Request: f.request, Files: a.files(), Finder: workspaceServers{a, &f.workspaceFlag},
		Turn: func(ctx context.Context, workspace string, gpus []string) (func(), error) {
			return a.benchTurn(ctx, workspace, gpus, f.gpuWait)
		},
		Notice: func(line string) { fmt.Fprintln(a.Stderr, printable.Line(a.asCalled(line))) },
	}.Run(ctx)
	err = a.explainer().Explain(err)
	after := f.files.WriteBench(result, err)
	if !result.Started.IsZero() {
		after = errors.Join(f.format.writeBench(a.Stdout, result.WriteText, result.WriteJSON), after)
	}
	return errors.Join(err, a.explainer().Explain(after))
}

// writeBench writes a result that has a form of its own for JSON.
func (f format) writeBench(w io.Writer, text, json func(io.Writer) error) error {
	if f == asJSON {
		return json(w)
	}
	return text(w)
}
