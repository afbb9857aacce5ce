package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// lackError says what a rerun needs and has not.
type lackError struct{ needs string }

func (e *lackError) Error() string { return e.needs }

// rerun runs again what a record is of, on this machine, and compares what both runs came to. It keeps what it needs of
// the record in a folder that goes with it.
func (a *App) rerun(ctx context.Context, red *record.Record, r *runFlags, o outputFlags) (record.Reproduction, error) {
	out := record.Reproduction{
		Level: record.Rerun, Lines: []string{},
		Proves: "what the same request comes to on this machine, with the images of the recorded lock where they can be had",
	}
	dir, err := os.MkdirTemp("", "dalirun-rerun-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	var request target.Request
	if red.Decode(record.RequestFile, &request) == nil {
		if left := notTakenOver(request.Settings); left != "" {
			out.Lines = append(out.Lines, left)
		}
	}
	if text, err := red.File(record.LockFile); err == nil {
		if _, err := lock.Parse(red.Path, text); err != nil {
			out.Lines = append(out.Lines, "the recorded lock is not whole: images are taken by their names")
		}
	}
	was, failed := red.Cause()
	if failed && (was.ID == "port-taken" || was.ID == "no-address") {
		out.Missing = "needs the port or the address that it failed for, and a rerun takes others"
		return out, nil
	}
	again, err := a.runAgain(ctx, red, r, o, dir)
	if missing, ok := errors.AsType[*lackError](err); ok {
		out.Missing = "needs " + missing.needs
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if is, failed := again.Cause(); failed && is.Turn == cause.Infrastructure && is.ID != was.ID {
		out.Missing = "needs another try: " + is.Text // which says nothing of what was recorded
		return out, nil
	}
	out = out.Compared(red, again, steps.Reasons)
	if failed && was.Turn == cause.Infrastructure && !out.Reproduced {
		out.Missing = "needs what came and went: " + was.Text
	}
	return out, nil
}

// runAgain runs what a record is of and returns the record of that. Its error is that no run came about, and not what
// the run ended with.
func (a *App) runAgain(
	ctx context.Context, red *record.Record, r *runFlags, o outputFlags, dir string,
) (again *record.Record, err error) {
	var was target.Target
	if red.Decode(record.RequestFile, &r.request) != nil || red.Decode(record.TargetFile, &was) != nil {
		return nil, &lackError{"the request and the target: the run was refused before they were known"}
	}
	if r.request.Picture.Data, err = red.File(record.PictureFile); err != nil {
		return nil, &lackError{"the picture, which the record lacks"}
	}
	f := recordFlags{file: filepath.Join(dir, "again"+record.Suffix)}
	if err := a.beginRecord(ctx, f, r.request.Command); err != nil {
		return nil, err
	}
	recording := a.recording
	defer func() { a.recording = nil }()
	a.folders = r.folders.Named()
	defer func() {
		if again == nil {
			err = errors.Join(err, recording.Close())
		}
	}()
	if err := r.rerunRequest(red); err != nil {
		return nil, err
	}
	recorded, onCPU, err := a.whereToRerun(ctx, red, was, r, dir)
	if err != nil {
		return nil, err
	}
	x, err := a.begin(ctx, r, o, (*session).resolve)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if failure := red.Failure(); err != nil && (failure == nil || failure.Step != "") {
		return nil, &lackError{"a machine that can: " + err.Error()}
	}
	if err != nil { // as that run was refused
		return recording.ended(err)
	}
	if err := x.start(ctx); err != nil {
		return nil, errors.Join(err, x.close())
	}
	list := x.steps(steps.IDVerify)
	if onCPU {
		list = steps.ForRerun(x.target, x.tools(), recorded)
	}
	err = x.runner(nil).Run(ctx, list)
	if ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), x.close())
	}
	return recording.ended(errors.Join(err, x.close()))
}

// ended closes the record of a run that ended with err, or well if that is nil, and returns it.
func (r *recording) ended(err error) (*record.Record, error) {
	if err != nil {
		r.AddJSON(record.FailureFile, cause.FailureOf(err, int(exitCode(err))))
	}
	return r.Snapshot(), r.Close()
}

// rerunRequest makes the request one of this machine: free ports, this workspace, the images of the recorded lock.
func (r *runFlags) rerunRequest(red *record.Record) error {
	q := &r.request
	q.Command, q.Exhaustive, q.Workspace = "e2e", false, r.folders.Workspace
	q.Host, q.HTTPPort, q.GRPCPort, q.MetricsPort = target.Request{}.Host, 0, 0, 0
	q.Lock = target.Locked{}
	limits := map[string]pflag.Value{
		"memory":   flagvalue.Bytes(&r.memory, leastMemory, flagvalue.MostMemory),
		"shm-size": flagvalue.Bytes(&r.shm, leastShm, flagvalue.MostMemory),
	}
	for flag, value := range limits {
		if set, named := q.Settings.Find(flag); named {
			if err := value.Set(set.Value); err != nil {
				return fmt.Errorf("--%s of the record: %w", flag, err)
			}
		}
	}
	text, err := red.File(record.LockFile)
	if err != nil {
		return nil //nolint:nilerr // the run did not get so far
	}
	if l, err := lock.Parse(red.Path, text); err == nil { // else it is taken by its names
		q.Lock = target.Locked{File: red.Path, Lock: &l}
	}
	return nil
}

// ownOfRun are the flags of a recorded run that a rerun does not take over: where it kept things and published its
// server.
func ownOfRun() []string {
	return []string{"cache-dir", "cache-readonly", "grpc-port", "host", "http-port", "lock", "metrics-port", "workspace"}
}

// notTakenOver says which flags of the recorded run were left out; empty if none.
func notTakenOver(was target.Settings) string {
	var flags []string
	for _, flag := range ownOfRun() {
		if was.Named(flag) {
			flags = append(flags, "--"+flag)
		}
	}
	if flags == nil {
		return ""
	}
	return "not taken over: " + strings.Join(flags, ", ")
}

// whereToRerun decides where the run is run again: where it ran, on a GPU, if there is one here; else on the CPU lane
// from what is recorded.
func (a *App) whereToRerun(
	ctx context.Context, red *record.Record, was target.Target, r *runFlags, dir string,
) (recorded *steps.Recorded, onCPU bool, err error) {
	if was.Lane == target.GPU {
		if _, err := a.system().GPUs(ctx); err == nil {
			return nil, false, nil
		}
	}
	recorded, err = extract(red, dir)
	if was.Lane != target.GPU && err != nil { // all of it can be made here, or was refused as it may be here
		if was.Lane == target.CPU {
			r.request.Accel = string(target.CPU) // and not what this machine has
		}
		return nil, false, nil
	}
	c, failed := red.Cause()
	switch {
	case err != nil && failed && c.Step != steps.IDVerify:
		return nil, false, &lackError{fmt.Sprintf("a GPU: the run failed in %s, and this machine has none", c.Step)}
	case err != nil:
		return nil, false, err
	}
	q := &r.request
	q.Accel, q.Images, q.RequireGPU = string(target.CPU), target.Auto, false
	q.Release, q.ServerImage, q.ExporterImage, q.GPUs = "", "", "", container.GPUs{}
	if was.Source != target.Local {
		q.Lock = target.Locked{} // it is of other images
	}
	q.Weights = target.WeightsSource{Kind: target.Random} // which nothing reads
	q.Settings = nil                                      // they were for the other lane
	return recorded, true, nil
}

// extract writes what a rerun on the CPU lane needs of a record into a folder.
func extract(red *record.Record, dir string) (*steps.Recorded, error) {
	recorded := &steps.Recorded{
		Model: filepath.Join(dir, "model.onnx"), Tensor: filepath.Join(dir, "tensor.f32"),
		Logits: filepath.Join(dir, "logits.f32"),
	}
	err := record.ExtractModel(red.Path, recorded.Model)
	if errors.Is(err, fs.ErrNotExist) || err != nil && red.Program == "" {
		return nil, &lackError{"a GPU, or the model in the record: --record-model keeps it"}
	}
	if err != nil {
		return nil, err
	}
	for name, path := range map[string]string{
		record.ReferenceTensor: recorded.Tensor, record.ReferenceLogits: recorded.Logits,
	} {
		content, err := red.File(name)
		if err != nil {
			return nil, &lackError{"PyTorch's tensors in the record, which only a verification that failed leaves"}
		}
		const private = 0o600
		if err := os.WriteFile(path, content, private); err != nil {
			return nil, err
		}
	}
	return recorded, nil
}
