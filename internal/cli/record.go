package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/internal/version"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const (
	// keptRecords is how many records a folder of runs keeps: of 5 MB at most each, unless they have models.
	keptRecords = 100
	// describeWithin bounds what is asked of the host after a run, which ends later by that.
	describeWithin = 5 * time.Second
)

// recordFlags say where the record of a run is kept.
type recordFlags struct {
	file, dir string
	model     bool
}

func (f *recordFlags) flags(set *pflag.FlagSet) {
	set.StringVar(&f.file, "record", "",
		"keep the run in this file, as in run"+record.Suffix+", for show, diff and reproduce")
	set.BoolVar(&f.model, "record-model", false, "keep the ONNX model in the record too, 98 MiB")
	set.StringVar(&f.dir, "runs-dir", "",
		fmt.Sprintf("keep the records of runs in this folder, each in a file of its own, the newest %d", keptRecords))
}

// recording is the record of a command's run, as it is written.
type recording struct {
	writers []*record.Writer // the same record at each place where it is wanted, so that a killed run leaves each

	flags   recordFlags
	runID   string
	began   time.Time
	program host.Runner // of this host; nil until the run is known to use its GPU
	kernel  host.KernelMark
	before  sync.WaitGroup // what is asked of the host when the run begins
	model   io.Closer      // keeps the recorded model in the cache; nil if there is none
	// lock returns the lock of what the run used; nil until that is known
	lock   func(context.Context) (lock.Lock, error)
	silent bool // stderr is for a program
}

// beginRecord begins the record of a run, where one is asked for. A command within another one goes on with its record.
func (a *App) beginRecord(ctx context.Context, f recordFlags, command string) error {
	if f.model && f.file == "" && f.dir == "" {
		return pipeline.Usagef("add --record FILE", "--record-model: there is no record that the model could be in")
	}
	if a.recording != nil || f.file == "" && f.dir == "" {
		return nil
	}
	r := &recording{flags: f, began: time.Now()}
	r.runID = owner.NewRunID(r.began)
	var paths []string
	if f.file != "" {
		paths = append(paths, f.file)
	}
	if f.dir != "" {
		const private = 0o700
		if err := os.MkdirAll(f.dir, private); err != nil {
			return pipeline.Faultf(pipeline.Environment, "name a folder that can be made with --runs-dir",
				"make the folder of runs: %w", err)
		}
		paths = append(paths, filepath.Join(f.dir, r.runID+record.Suffix))
	}
	var errs []error // one record tells what is wrong with the other
	for _, path := range paths {
		w, err := record.Create(path, record.Options{
			Program: version.This().Version, Command: command, Started: r.began, Redactor: newRedactor(a).KeepGPUs(),
		})
		if err != nil {
			errs = append(errs, recordFault(err))
			continue
		}
		r.writers = append(r.writers, w)
	}
	if len(r.writers) > 0 {
		r.SetRun(r.runID)
		r.AddText(record.EnvironmentFile, []byte(doctor.Environment(a.Environ())))
		r.before.Go(func() { r.kernel = a.system().KernelMark(ctx) })
		a.recording = r
	}
	return errors.Join(errs...)
}

// recordFault says why a record cannot be made.
func recordFault(err error) error {
	if _, other := errors.AsType[*userfile.OtherError](err); other {
		return pipeline.Usagef("name another file with --record, or remove that one", "--record: %w", err)
	}
	if errors.Is(err, record.ErrHeld) {
		return pipeline.Faultf(pipeline.Environment, "wait for that run, or name another file with --record",
			"make the record: %w", err)
	}
	return userfile.MakeFault("make the record", err)
}

// recorded is where a run keeps what it finds; nil if there is no record.
func (a *App) recorded() steps.Evidence {
	if a.recording == nil {
		return nil
	}
	return a.recording
}

// newRunID is the ID of a run that begins.
func (a *App) newRunID() string {
	if a.recording != nil {
		return a.recording.runID
	}
	return owner.NewRunID(time.Now())
}

// request keeps what was asked for. The picture is a member of its own.
func (r *recording) request(request target.Request) {
	if data := request.Picture.Data; len(data) > 0 {
		r.AddBytes(record.PictureFile, data)
	}
	request.Picture.Data = nil
	r.AddJSON(record.RequestFile, request)
}

// decided keeps what was decided, and the answers that it rests on; answers are nil where nothing was asked.
func (r *recording) decided(t target.Target, answers *target.Answers, obstacles []target.Obstacle) {
	t.Picture.Data = nil
	if answers != nil {
		r.AddJSON(record.AnswersFile, answers)
		r.AddJSON(record.ObstaclesFile, slices.Concat([]target.Obstacle{}, obstacles))
	}
	r.AddJSON(record.TargetFile, t)
}

// describeGPUs keeps the state of the GPUs before the steps, beside them, and has [App.endRecord] keep that after them.
func (r *recording) describeGPUs(ctx context.Context, program host.Runner) {
	r.program = program
	r.before.Go(func() { r.describe(ctx, record.GPUBeforeFile) })
}

func (r *recording) describe(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, describeWithin)
	defer cancel()
	text, err := host.Describe(ctx, r.program)
	if err != nil {
		text = err.Error() + "\n"
	}
	r.AddText(name, []byte(text))
}

// noteFailure keeps the error of a run in its folder, which show reads too. What cannot be kept there is in the logs.
func noteFailure(dir string, err error) {
	const private = 0o600
	if text, jsonErr := json.Marshal(cause.FailureOf(err, int(exitCode(err)))); jsonErr == nil {
		_ = os.WriteFile(filepath.Join(dir, record.FailureFile), text, private)
	}
}

// keepModel has the record keep the ONNX model that the run used, if it got so far.
func (r *recording) keepModel(from *store.Store) {
	if !r.flags.model || from == nil {
		return
	}
	for _, s := range r.Snapshot().Run().Steps {
		if s.ID != steps.IDExportONNX || s.Fingerprint == "" {
			continue
		}
		if entry, err := from.Get(s.Fingerprint); err == nil { // else it was not exported
			r.AddFile(record.ModelFile, steps.ExportedModel(entry.Values()))
			r.model = entry
		}
	}
}

// recordRefused begins the record of a command that was refused before it began one, as one whose flags cannot be read:
// the record of an older run must not be taken for this one's.
func (a *App) recordRefused(ctx context.Context) {
	command, _, err := a.Command().Find(a.args) //nolint:contextcheck // nothing is run
	if err != nil || command.Flags().Lookup("record") == nil {
		return
	}
	asked := func(flag string) string {
		for i, arg := range a.args {
			if value, ok := strings.CutPrefix(arg, "--"+flag+"="); ok {
				return value
			}
			if arg == "--"+flag && i+1 < len(a.args) {
				return a.args[i+1]
			}
		}
		if value := a.env(config.Variable(flag)); value != "" {
			return value
		}
		file, _ := config.Read(ctx, config.File, flagNames(command.Root()), flagvalue.ServingKeys())
		return file[flag].Text // as far as the file could be read
	}
	f := recordFlags{file: asked("record"), dir: asked("runs-dir")}
	_ = a.beginRecord(ctx, f, command.Name()) // what is wrong was told
}

// endRecord ends the record of the command's run, which ended with err.
func (a *App) endRecord(ctx context.Context, err error) error {
	if a.recording == nil && err != nil {
		a.recordRefused(context.WithoutCancel(ctx))
	}
	r := a.recording
	if r == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	r.before.Wait()
	if r.program != nil {
		r.describe(ctx, record.GPUAfterFile)
	}
	if r.lock != nil {
		within, cancel := context.WithTimeout(ctx, describeWithin)
		if used, lockErr := r.lock(within); lockErr == nil { // a run that ended early does not know all of it
			r.AddText(record.LockFile, used.Text())
		}
		cancel()
	}
	if err != nil {
		if lines := a.system().KernelLog(ctx, r.kernel); len(lines) > 0 {
			r.AddText(record.KernelFile, []byte(strings.Join(lines, "\n")+"\n"))
		}
		r.AddJSON(record.FailureFile, cause.FailureOf(err, int(exitCode(err))))
		if c, ok := r.Snapshot().Cause(); ok {
			r.AddJSON(record.CauseFile, c)
			defer a.tellCause(c)
		}
	}
	closed := r.Close()
	if r.model != nil {
		closed = errors.Join(closed, r.model.Close())
	}
	if err := closed; err != nil {
		return pipeline.Faultf(pipeline.Environment,
			"look at its disk (`df -h`), or name another file with --record", "%w", err)
	}
	if r.flags.dir == "" {
		return nil
	}
	if err := record.Prune(r.flags.dir, keptRecords); err != nil {
		return userfile.MakeFault("drop an old record", err)
	}
	return nil
}

// tellCause says on stderr whose turn it is, and where the rest is, unless stderr is JSON Lines.
func (a *App) tellCause(c cause.Cause) {
	r := a.recording
	if r.silent {
		return
	}
	fmt.Fprintf(a.Stderr, "  turn: %s (%s); %s says the rest\n", c.Turn, c.ID,
		a.asCalled("`dalirun show "+shell.Quote(userfile.Shown(r.Path()))+"`"))
}

// AddText keeps a text, out of which secrets are taken.
func (r *recording) AddText(name string, content []byte) {
	for _, w := range r.writers {
		w.AddText(name, content)
	}
}

// AddJSON keeps a value as JSON, out of which secrets are taken.
func (r *recording) AddJSON(name string, value any) {
	for _, w := range r.writers {
		w.AddJSON(name, value)
	}
}

// AddBytes keeps bytes as they are.
func (r *recording) AddBytes(name string, content []byte) {
	for _, w := range r.writers {
		w.AddBytes(name, content)
	}
}

// AddFile keeps a file as it is, which is read when the record is complete.
func (r *recording) AddFile(name, file string) {
	for _, w := range r.writers {
		w.AddFile(name, file)
	}
}

// Emit keeps an event.
func (r *recording) Emit(e pipeline.Event) {
	for _, w := range r.writers {
		w.Emit(e)
	}
}

// SetRun names the run.
func (r *recording) SetRun(id string) {
	for _, w := range r.writers {
		w.SetRun(id)
	}
}

// Snapshot returns what the record has so far.
func (r *recording) Snapshot() *record.Record { return r.writers[0].Snapshot() }

// Path is that of the record which the user named, or else of the one in the folder of runs.
func (r *recording) Path() string { return r.writers[0].Path() }

// Close writes the record whole.
func (r *recording) Close() error {
	var errs []error
	for _, w := range r.writers {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}
