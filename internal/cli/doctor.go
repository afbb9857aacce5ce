package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) doctorCommand() *cobra.Command {
	var r runFlags
	var form format
	var bundle string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether a run with these flags would work here",
		Long: `doctor looks at what a run needs: container engine, GPUs, driver, images, disk, ports and weights. Each check
is ok, a warning or a failure, and says what it saw and what to do. It asks the registry for the images without pulling
them, takes 10 s at most, changes nothing but notes in the cache, and ends with 3 if a run with the same flags would
fail; the last line says so too. What cannot be seen from here, such as disks and ports of a container engine on another
host, it leaves out.

With --bundle it also writes one archive for a bug report. User names, home folders, credentials and serial numbers are
taken out; what is in it is listed.`,
		Example: `  dalirun doctor
  dalirun doctor --accel cpu --weights auto --format json
  dalirun doctor --gpus device=0 --bundle report.tar.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.doctor(cmd, &r, form, bundle)
		},
	}
	r.flags(a, cmd)
	formatFlag(cmd, &form)
	cmd.Flags().StringVar(&bundle, "bundle", "", "write what a bug report needs to this new file, as in report.tar.gz")
	return cmd
}

// doctor examines, and ends as a run with the same flags would begin.
func (a *App) doctor(cmd *cobra.Command, r *runFlags, form format, bundle string) error {
	ctx := cmd.Context()
	began := time.Now()
	found, silent, err := r.findSome(ctx)
	if err != nil {
		return err
	}
	left := doctor.Within - time.Since(began) // a silent disk takes of the time of the checks; a pipe's picture does not
	r.folders = found
	if err := r.checkRequest(); err != nil {
		return err
	}
	files := a.files()
	if err := r.readPicture(ctx, files); err != nil {
		return err
	}
	if err := r.readLock(ctx, files); err != nil {
		return err
	}
	var file *os.File
	if bundle != "" {
		if file, err = userfile.CreateNew("--bundle", bundle, "make the bundle"); err != nil {
			return err
		}
	}
	limited, end := context.WithTimeoutCause(ctx, left, fmt.Errorf("no answer within %s", doctor.Within))
	defer end()
	x, findings := doctor.Examine(limited, a.patient(limited, r, silent))
	for i := range findings {
		findings[i].Remedy = a.asCalled(findings[i].Remedy)
	}
	if file != nil {
		err = a.writeBundle(ctx, file, cmd, r, x, findings)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lost := form.write(a.Stdout, findings, func(w io.Writer) error { return doctor.WriteText(w, findings) })
	if err := errors.Join(err, lost); err != nil {
		return err
	}
	return verdict(findings)
}

// patient is the run that the flags ask for, on this machine. Its cache is opened while ctx lasts.
func (a *App) patient(ctx context.Context, r *runFlags, silent silence) doctor.Patient {
	cache := sync.OnceValues(func() (*store.Store, error) {
		if silent.cache != nil {
			return nil, silent.cache
		}
		return host.OnDisk(ctx, host.DiskWithin, r.folders.Cache, r.folders.OpenCache)
	})
	runtime, err := a.runtime(runtimeOptions{answerWithin: doctor.AnswerWithin})
	if err != nil {
		runtime = unusable{err: err}
	}
	request := r.request
	request.Exhaustive = true
	return doctor.Patient{
		Request: request, Probes: a.probes(runtime, cache),
		Host:  doctor.HostProbe{Writable: host.Writable, Owner: host.Owner},
		Cache: r.folders.Cache, Workspace: r.folders.Workspace,
		SilentCache: silent.cache, SilentWorkspace: silent.workspace,
		CacheFlags: r.folders.CacheFlags(), CacheDoubt: r.folders.Doubt,
		OpenCache: func() error {
			_, err := cache()
			return a.explainer().Explain(err)
		},
		Plan: func(ctx context.Context, t target.Target) ([]doctor.Planned, error) {
			opened, err := cache()
			if err != nil {
				return nil, err
			}
			return plannedSteps(ctx, t, runtime, opened, r)
		},
		UnusedSteps: func(t target.Target) []string {
			warnings, _ := r.force.Unused(r.request, t) // what must not be dropped was refused before
			return warnings
		},
	}
}

// plannedSteps is what e2e would make, as the command plan says it.
func plannedSteps(
	ctx context.Context, t target.Target, runtime container.Runtime, cache *store.Store, r *runFlags,
) ([]doctor.Planned, error) {
	runner := pipeline.Runner{Workspace: r.folders.Workspace, Store: cache, Force: r.force.IDs()}
	list := steps.For(t, steps.Tools{
		Runner: runtime, Images: runtime, Builder: builder(runtime), KV: cache, TimingCache: cache,
	}, steps.IDVerify)
	rows, err := runner.Plan(ctx, list)
	var all []doctor.Planned
	for _, row := range rows {
		kind := row.Verdict.Kind
		all = append(all, doctor.Planned{
			Step: row.Step, Runs: kind == pipeline.WillRun || kind == pipeline.Depends, ImageMissing: steps.ImageMissing(row),
			Bytes: steps.Bytes(t, row.Step),
		})
	}
	return all, err
}

// unusable is a container engine of which the environment says something wrong.
type unusable struct {
	container.Runtime

	err error
}

// Remote reports false: nothing is known of it.
func (unusable) Remote() bool { return false }

// Info returns what is wrong.
func (u unusable) Info(context.Context) (container.Info, error) { return container.Info{}, u.err }

// verdict is the error of the first check that failed.
func verdict(findings []doctor.Finding) error {
	for _, f := range findings {
		if f.Status == doctor.Fail {
			return &shownError{pipeline.Faultf(pipeline.Environment, f.Remedy, "%s: %s", f.Check, f.Saw)}
		}
	}
	return nil
}
