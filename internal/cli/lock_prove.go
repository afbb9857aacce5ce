package cli

import (
	"context"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// prove builds and serves what two locks have. An old one that cannot be run any more is part of the proof; a new one
// that cannot is an error.
func (x *session) prove(ctx context.Context, file string, was, is lock.Lock) (report.LockProof, error) {
	proof := report.LockProof{File: file, Changes: lock.Diff(was, is)}
	if x.lock == nil {
		if err := x.start(ctx); err != nil {
			return proof, err
		}
	}
	var err error
	proof.Was, err = x.proveOne(ctx, "old", file, was)
	if ctx.Err() != nil {
		return proof, context.Cause(ctx)
	}
	if err != nil {
		proof.Was.Error = err.Error()
		x.warn("the old lock could not be run: " + err.Error())
	}
	proof.Is, err = x.proveOne(ctx, "new", file, is)
	return proof, err
}

// proveOne builds what a lock has anew, serves it and compares its answers with PyTorch's.
func (x *session) proveOne(ctx context.Context, name, file string, l lock.Lock) (of report.LockRun, err error) {
	of.Lock = l
	t, obstacles, err := target.Resolve(ctx, x.flags.request.OfLock(file, l), x.probes)
	if err == nil {
		err = target.Refusal(obstacles)
	}
	if err != nil {
		return of, x.app.explainer().Explain(err)
	}
	for _, o := range obstacles {
		if o.Check == target.CheckLock {
			of.Doubts = append(of.Doubts, o.Err.Error())
		}
	}
	run := func(last pipeline.ID, force map[pipeline.ID]bool, then func(pipeline.Values) error) (report.Report, error) {
		collector := newCollector()
		runner := x.runner(func(_ context.Context, made pipeline.Values) error { return then(made) })
		runner.Sink, runner.Facts, runner.Force = ui.Tee(ui.WarningsOnly(x.sink), collector), report.Facts(t, ""), force
		err := runner.Run(ctx, steps.For(t, x.tools(), last))
		return collector.Report(), err
	}
	x.showLock("the " + name + " lock: building")
	building := steps.Building()
	built, err := run(steps.IDAssembleRepository, building, func(made pipeline.Values) (err error) {
		of.RepositoryBytes, err = sizeOf(steps.Assembled(made))
		return err
	})
	of.Report = built
	if err != nil {
		return of, err
	}
	for _, s := range built.Steps {
		if building[s.ID] {
			of.BuildSeconds += s.Seconds
		}
	}
	x.showLock("the " + name + " lock: serving")
	of.Report, err = run(steps.IDVerify, nil, func(pipeline.Values) error { return nil })
	return of, err
}

// showLock shows what is under way.
func (x *session) showLock(text string) {
	x.sink.Emit(pipeline.Event{
		Run: x.runID, Time: time.Now().UTC(), Step: steps.IDLock, Payload: pipeline.Line{Text: text},
	})
}

// sizeOf is the sum of the files below a folder, in bytes.
func sizeOf(folder string) (bytes int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
