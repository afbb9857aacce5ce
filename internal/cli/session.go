package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/fetch"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/internal/version"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// cleanup bounds the end of a run: draining a server takes up to 35 s, the rest is quick.
const cleanup = steps.DrainGrace + 10*time.Second

// outputFlags say how a command shows what it does.
type outputFlags struct {
	progress ui.Mode
	verbose  bool
	format   format
	follow   pipeline.ID // a step whose output is shown too
}

func (o *outputFlags) flags(cmd *cobra.Command) {
	o.progress = ui.Auto
	formatFlag(cmd, &o.format)
	cmd.Flags().Var(flagvalue.Choice(&o.progress, ui.Modes()...), "progress", "how progress is shown on stderr")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the steps' output too")
}

// format is the form of a result on stdout.
type format string

const (
	asText format = "text"
	asJSON format = "json"
)

func formatFlag(cmd *cobra.Command, value *format) {
	*value = asText
	cmd.Flags().Var(flagvalue.Choice(value, asText, asJSON), "format", "form of the result on stdout")
}

// write writes a result in this form.
func (f format) write(w io.Writer, result any, writeText func(io.Writer) error) error {
	if f == asJSON {
		return stdout.WriteJSON(w, result)
	}
	return writeText(w)
}

// session is one run of a list of steps.
type session struct {
	app           *App
	flags         *runFlags
	target        target.Target
	doubts        []string // what may go otherwise than wanted
	weightsDoubts []string // what of it is about the weights
	probes        target.Probes
	me            owner.Identity
	store         *store.Store
	runtime       container.Runtime
	servers       serving.Servers
	lock          *owner.Lock
	serveLock     *serving.Lock // nil where the run does not serve the workspace
	releaseImages func() error  // lets gc remove the images of the run; nil before it holds them
	runID         string
	first         string // what the first run of a workspace gets and makes; empty for any other

	sink      pipeline.Sink
	renderer  ui.Renderer
	json      bool // stderr is JSON Lines
	logs      *ui.LogSink
	collector *report.Collector
}

// prepare decides what a run would be, and changes nothing but the cache's folder.
func (a *App) prepare(ctx context.Context, r *runFlags, o outputFlags) (x *session, err error) {
	if err := a.beginRecord(ctx, r.record, r.request.Command); err != nil {
		return nil, err
	}
	if a.recording != nil {
		defer func() { a.recording.request(r.request) }() // also of one that was refused
	}
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	a.folders = r.folders.Named()
	files := a.files()
	if err := r.readPicture(ctx, files); err != nil {
		return nil, err
	}
	if err := r.readLock(ctx, files); err != nil {
		return nil, err
	}
	return a.begin(ctx, r, o, (*session).resolve)
}

// begin gets ready what every run works with, and has decide say what the run is.
func (a *App) begin(
	ctx context.Context, r *runFlags, o outputFlags, decide func(*session, context.Context) error,
) (x *session, err error) {
	x = &session{app: a, flags: r, runID: a.newRunID(), json: o.progress == ui.JSON}
	if a.recording != nil {
		a.recording.silent = x.json
	}
	if x.me, err = owner.CurrentIdentity(time.Now()); err != nil {
		return nil, err
	}
	labels := owner.RunLabels(x.me, x.runID, r.folders.Workspace, version.This().Version)
	if x.runtime, err = a.runtime(runtimeOptions{labels: labels, notice: x.warn}); err != nil {
		return nil, err
	}
	x.probes = a.probes(x.runtime, func() (*store.Store, error) { return x.store, nil })
	info, err := x.probes.Runtime.Info(ctx)
	if err != nil {
		if a.recording != nil {
			_ = decide(x, ctx) // which has the record say what was asked, and what this answer leads to
		}
		return nil, err
	}
	x.servers = a.serversOn(x.runtime, info, x.me)
	x.servers.Warn = x.warn
	begun := x
	defer func() {
		if err != nil {
			err = errors.Join(err, begun.unlockWorkspace())
		}
	}()
	// Before all that another flag could mend, as a port that the first server has: no flag lets a workspace have a
	// second one.
	if _, statErr := os.Stat(r.folders.Workspace); x.servesWorkspace() && statErr == nil {
		if err := x.lockWorkspace(ctx); err != nil {
			return nil, err
		}
		x.freePorts(ctx)
	}
	if x.store, err = r.folders.OpenCache(); err != nil {
		return nil, err
	}
	if err := decide(x, ctx); err != nil {
		return nil, err
	}
	x.renderer, err = ui.New(o.progress, a.Stderr, ui.Options{
		Terminal: a.terminal(), Verbose: o.verbose, Follow: o.follow,
		Location: time.Local, //nolint:gosmopolitan // a person reads the times
	})
	if err != nil {
		return nil, err
	}
	x.sink = x.tee(x.renderer)
	return x, nil
}

// tee is where the events of the run go: into its record too.
func (x *session) tee(sinks ...pipeline.Sink) pipeline.Sink {
	if x.app.recording != nil {
		sinks = append(sinks, x.app.recording)
	}
	return ui.Tee(sinks...)
}

// resolve decides what the run is, or why it is none.
func (x *session) resolve(ctx context.Context) (err error) {
	var obstacles []target.Obstacle
	probes, recording := x.probes, x.app.recording
	var answers target.Answers
	if recording != nil {
		probes = target.Record(probes, &answers)
	}
	x.target, obstacles, err = target.Resolve(ctx, x.flags.request, probes)
	if recording != nil {
		recording.decided(x.target, &answers, obstacles)
	}
	if err == nil {
		err = target.Refusal(obstacles)
	}
	if err != nil {
		return err
	}
	for _, o := range obstacles {
		if o.Check == target.CheckWeights {
			x.weightsDoubts = append(x.weightsDoubts, o.Err.Error())
			continue
		}
		x.doubts = append(x.doubts, o.Err.Error())
	}
	unused, err := x.flags.force.Unused(x.flags.request, x.target)
	x.doubts = append(x.doubts, unused...)
	if x.flags.folders.Doubt != "" {
		x.doubts = append(x.doubts, x.flags.folders.Doubt)
	}
	if x.target.Weights.Kind == target.Random {
		x.weightsDoubts = append(x.weightsDoubts,
			"seeded random weights are used: the comparison with PyTorch holds, but "+serving.LabelsMeanNothing)
	}
	return err
}

// servesWorkspace says whether the server is the workspace's, of which there is one.
func (x *session) servesWorkspace() bool { return x.flags.request.Command == "serve" }

// open gets everything ready for a run, and removes what dead ones left.
func (a *App) open(ctx context.Context, r *runFlags, o outputFlags) (*session, error) {
	x, err := a.prepare(ctx, r, o)
	if err != nil {
		return nil, err
	}
	if err := x.start(ctx); err != nil {
		return nil, errors.Join(err, x.close())
	}
	x.planFirstRun(ctx)
	return x, nil
}

// start makes this process one that runs in the workspace, and removes what dead ones left.
func (x *session) start(ctx context.Context) error {
	r := x.flags
	if err := owner.MakeWorkspace(r.folders.Workspace); err != nil {
		return pipeline.Faultf(pipeline.Environment, "name a folder that can be made with --workspace",
			"make the workspace: %w", err)
	}
	// Somebody may have made it just before.
	if err := folders.CheckWorkspace(r.folders.Workspace, r.request.Settings); err != nil {
		return err
	}
	if x.servesWorkspace() { // before the run has a folder: one that is refused leaves none
		if err := x.lockWorkspace(ctx); err != nil {
			return err
		}
	}
	var err error
	if x.lock, err = owner.Acquire(r.folders.Workspace, x.runID); err != nil {
		return err
	}
	if x.releaseImages, err = x.store.HoldImages(ctx, steps.ImageRefs(x.target, x.tools())...); err != nil {
		return err
	}
	x.logs = ui.NewLogSink(x.lock.Dir())
	x.collector = newCollector()
	x.sink = x.tee(x.renderer, x.logs, x.collector)
	if r := x.app.recording; r != nil && x.target.Lane == target.GPU {
		r.describeGPUs(ctx, x.app.system().Command)
	}
	x.sweep(ctx)
	for _, text := range x.app.takeUnread() {
		x.warn(text)
	}
	for _, doubt := range slices.Concat(x.doubts, x.weightsDoubts) {
		x.warn(doubt)
	}
	return nil
}

func newCollector() *report.Collector {
	return &report.Collector{ExitCode: func(err error) int { return int(exitCode(err)) }, Program: version.This().Version}
}

// sweepContainers removes the containers that dead runs left, as on a GPU on which one built an engine when it was
// killed.
func (x *session) sweepContainers(ctx context.Context) {
	removed, err := x.servers.Sweep(ctx, x.flags.folders.Workspace)
	x.tellOfRemoved(removed)
	if err != nil && ctx.Err() == nil {
		x.warn(err.Error())
	}
}

// tellOfRemoved is of other runs, perhaps of other workspaces: no part of what this run reports.
func (x *session) tellOfRemoved(removed []serving.Leftover) {
	for _, c := range removed {
		warning(ui.Tee(x.renderer, x.logs), x.runID, "removed container "+c.Name+": "+c.Reason)
	}
}

// sweep removes what dead runs left. What cannot be removed is told of, and stops nothing.
func (x *session) sweep(ctx context.Context) {
	removed, err := gc.Place{Servers: x.servers, Cache: x.store, Workspace: x.flags.folders.Workspace}.Sweep(ctx)
	x.tellOfRemoved(removed)
	if err != nil && ctx.Err() == nil {
		x.warn(err.Error())
	}
}

// freePorts removes the server that a killed serve of the workspace left: it has the ports that were named, and that
// the same command names again. That it cannot be removed is told by [session.sweep].
func (x *session) freePorts(ctx context.Context) {
	removed, _ := x.servers.Sweep(ctx, x.flags.folders.Workspace)
	for _, c := range removed {
		x.warn("removed container " + c.Name + ": " + c.Reason)
	}
}

// warn tells of what may go otherwise than wanted. What there is to tell before the run can show anything, as when a
// server is swept whose last output cannot be kept, is told once it can.
func (x *session) warn(text string) {
	if x.sink == nil {
		x.app.unread = append(x.app.unread, text)
		return
	}
	warning(x.sink, x.runID, x.app.asCalled(text))
}

func warning(to pipeline.Sink, run, text string) {
	to.Emit(pipeline.Event{Run: run, Time: time.Now().UTC(), Payload: pipeline.Warning{Text: text}})
}

// tools are what the steps work with.
func (x *session) tools() steps.Tools {
	t := steps.Tools{
		Runner: x.runtime, Images: x.runtime, Builder: builder(x.runtime), KV: x.store, Fetcher: fetch.Fetcher{},
		TimingCache: x.store, Evidence: x.app.recorded(), Memory: x.flags.memory, Shm: x.flags.shm,
		BuildArgs: x.app.buildArgs(),
		CABundle:  x.app.caBundle(), Gone: x.gone,
	}
	if x.target.Lane == target.GPU {
		t.GPUMemory, t.GPUTurn = x.gpuMemory, x.gpuTurn()
		if !x.probes.Runtime.Remote() {
			t.Neighbours = x.neighbours
		}
	}
	return t
}

// gone asks a registry what it lacks of an image that could not be pulled. Each time it has a limit of its own.
func (x *session) gone(ctx context.Context, ref string) ([]string, error) {
	info, err := x.probes.Runtime.Info(ctx)
	if err != nil {
		return nil, err
	}
	return registries(x.runtime, info, goneWithin).Gone(ctx, ref, info.Arch)
}

// gpuMemory returns the memory of the run's GPUs as it is now. Other programs take and free it while images arrive.
func (x *session) gpuMemory(ctx context.Context) (trtexec.GPUMemory, error) {
	chosen, err := target.ChosenGPUs(ctx, x.probes, x.target.GPUs)
	if err != nil {
		return trtexec.GPUMemory{}, err
	}
	free, total := host.Memory(chosen)
	return trtexec.GPUMemory{Free: free, Total: total}, nil
}

// facts returns the facts of the run that are stamped on every result.
func (x *session) facts() map[string]string { return report.Facts(x.target, x.first) }

// steps returns the steps of the run up to the last one of its command.
func (x *session) steps(last pipeline.ID) []pipeline.Step {
	return steps.For(x.target, x.tools(), last)
}

// planFirstRun finds out whether anything has run in the workspace, and if not, what a run would get and make. Where
// that cannot be told, the run itself says why.
func (x *session) planFirstRun(ctx context.Context) {
	list := x.steps(steps.IDVerify)
	for _, s := range list {
		if _, builds := s.(pipeline.Builder); !builds {
			continue
		}
		if last, err := x.store.Last(x.flags.folders.Workspace, s.ID()); err != nil || last != nil {
			return
		}
	}
	runner := pipeline.Runner{Workspace: x.flags.folders.Workspace, Store: x.store, Force: x.flags.force.IDs()}
	if plan, err := runner.Plan(ctx, list); err == nil {
		x.first = steps.FirstRun(x.target, plan)
	}
}

// runner runs steps or plans them. It calls then, which may be nil, while everything that they started stands.
func (x *session) runner(then func(context.Context, pipeline.Values) error) *pipeline.Runner {
	return &pipeline.Runner{
		RunID: x.runID, Workspace: x.flags.folders.Workspace, Store: x.store, Sink: x.sink, First: x.first != "",
		Facts: x.facts(), Force: x.flags.force.IDs(), Reasons: steps.Reasons, Cleanup: cleanup,
		Explain: x.app.explainer().Explain, Then: then,
	}
}

// finish closes everything, shows all errors and returns them for the exit code. The runner has explained its own, run;
// what came after it is explained here.
func (x *session) finish(run error, after ...error) error {
	err := errors.Join(run, x.app.explainer().Explain(errors.Join(append(after, x.close())...)))
	if r := x.app.recording; r != nil && x.collector != nil {
		report := x.collector.Report()
		r.AddJSON(record.ReportFile, report)
		r.keepModel(x.store)
		r.lock = func(ctx context.Context) (lock.Lock, error) {
			return steps.LockOf(ctx, x.target, report.Digests, x.tools())
		}
	}
	if err == nil {
		return nil
	}
	if x.lock != nil {
		noteFailure(x.lock.Dir(), err)
	}
	if x.json && x.collector != nil && x.collector.Failed() {
		return &shownError{err} // the last event has it
	}
	var logPath func(pipeline.ID) string
	if x.logs != nil {
		logPath = x.logs.LogPath
	}
	return x.app.show(err, logPath)
}

func (x *session) close() error {
	err := x.renderer.Close()
	if errors.Is(err, syscall.EPIPE) {
		err = nil // nobody reads stderr any more, as in `2>&1 | head`: the result does not depend on it
	}
	if x.logs != nil {
		err = errors.Join(err, x.logs.Close())
	}
	if x.releaseImages != nil {
		err = errors.Join(err, x.releaseImages())
	}
	if x.lock != nil {
		err = errors.Join(err, x.lock.Release())
	}
	return errors.Join(err, x.unlockWorkspace())
}
