package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) lockCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	var f lockFlags
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Write down what a run resolves to, so that later runs are the same",
		Long: `lock resolves what a run with the same flags would take, and writes it to ` + lock.File + ` in the current
folder: the digests of NVIDIA's images for each platform, or of the base image with the apt and pip packages of the
local images, and the hashes of weights, programs, labels and picture. It has a fact a line, sorted, for a repository
and its reviews. NVIDIA's images are asked for in their registry and not pulled; local images are built unless they are
here.

Where there is a lock, setup, serve, e2e, tune, plan and doctor keep to it: its release is taken unless another is
named, and images are pulled by their digests, so that a tag which is moved changes nothing. A run that differs from its
lock otherwise, as by another picture, says so and goes on; with --frozen it is refused, and ends with 3. --lock names
another lock, and --lock none ignores the one that is here.

A lock that is there is not overwritten: --update shows what changed since, and writes it anew. The release and the base
image stay those of the lock unless others are named; all else is as the flags say.

With --prove, the models of both the old and the new lock are built anew, served at free ports of this host, and
compared with PyTorch. Stdout has the text of a pull request then: what changes, and of both the comparisons, the time
to build and to be ready, and the sizes. A new lock that does not pass is not written, and the exit code says what
failed; an old one that cannot be run any more is told of.`,
		Example: `  # in the repository of the project
  dalirun lock
  git add ` + lock.File + `

  # in CI
  dalirun e2e --require-gpu --frozen

  # another release
  dalirun lock --update --release 25.04 --prove >pull-request.md`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.lock(cmd.Context(), &r, o, f)
		},
	}
	r.flags(a, cmd)
	o.flags(cmd)
	cmd.Flags().Lookup("lock").Usage = "file to write (default " + lock.File + " in the current folder)"
	cmd.Flags().BoolVar(&f.update, "update", false, "show what changed since the lock was written, and write it anew")
	cmd.Flags().BoolVar(&f.prove, "prove", false,
		"build and serve what both locks have, and write the text of a pull request; with --update")
	return cmd
}

// lockFlags say what becomes of a lock that is there.
type lockFlags struct{ update, prove bool }

// lockResult is what became of a lock, as JSON has it.
type lockResult struct {
	File    string        `json:"file"`
	Written bool          `json:"written"` // false if nothing changed
	Changes []lock.Change `json:"changes"` // against the lock that was there; all facts if there was none
	// PullRequest is the text of one, of --prove.
	PullRequest string `json:"pull_request,omitempty"`

	update bool
}

func (a *App) lock(ctx context.Context, r *runFlags, o outputFlags, f lockFlags) error {
	o.follow = steps.IDLock
	if err := r.check(ctx); err != nil {
		return err
	}
	a.folders = r.folders.Named()
	files := a.files()
	if err := r.readPicture(ctx, files); err != nil {
		return err
	}
	present, err := r.presentLock(ctx, files, f)
	if err != nil {
		return err
	}
	r.stayAt(present)
	r.request.Lock.Frozen = false // it is told that a lock has no use for it
	x, err := a.begin(ctx, r, o, (*session).resolve)
	if err != nil {
		return err
	}
	made, err := x.makeLock(ctx)
	if err != nil {
		return x.finish(err)
	}
	made = made.Merged(present)
	found := lockResult{
		File: r.lockFile(), Changes: append([]lock.Change{}, lock.Diff(present, made)...), update: f.update,
	}
	if _, err := lock.Parse(found.File, made.Text()); err != nil { // nobody could keep to it
		return x.finish(err)
	}
	if f.prove && len(found.Changes) > 0 {
		proof, err := x.prove(ctx, found.File, present, made)
		if err != nil {
			return x.finish(err) // and the lock stays as it was
		}
		var text strings.Builder
		if err := proof.WritePullRequest(&text); err != nil {
			return x.finish(err)
		}
		found.PullRequest = text.String()
	}
	if len(found.Changes) > 0 {
		path, err := userfile.Replaceable(found.File, "file", nil) // which was read
		if err == nil {
			err = fsync.WriteFile(path, made.Text(), 0o644)
		}
		if err != nil {
			return x.finish(userfile.MakeFault("write the lock "+userfile.Shown(found.File), err))
		}
		found.Written = true
	}
	return x.finish(nil, o.format.write(a.Stdout, found, found.writeText))
}

// presentLock reads the lock that is to be written anew; it is empty if there is none.
func (r *runFlags) presentLock(ctx context.Context, files *userfile.Reader, f lockFlags) (lock.Lock, error) {
	name := r.lockFile()
	if name == target.NoLock {
		return lock.Lock{}, pipeline.Usagef("name a file, as in --lock ./"+target.NoLock,
			"%s: no lock could be written there", r.request.Settings.Written("lock", name))
	}
	there, err := isThere(name)
	if f.prove && !there {
		return lock.Lock{}, pipeline.Usagef("write the first one without --prove",
			"--prove: there is no %s to compare with", userfile.Shown(name))
	}
	if err != nil || !there {
		return lock.Lock{}, err
	}
	if !f.update {
		return lock.Lock{}, pipeline.Usagef("`dalirun lock --update` shows what changed since, and writes it anew",
			"%s is there already", userfile.Shown(name))
	}
	present, err := r.findLock(ctx, files)
	if present == nil {
		return lock.Lock{}, err
	}
	return *present, err
}

// stayAt keeps to the release and the base image of a lock, unless the flags name others.
func (r *runFlags) stayAt(present lock.Lock) {
	q := &r.request
	if q.Release == "" && q.ServerImage == "" {
		q.Release = present.Release
	}
	if q.BaseImage == "" {
		q.BaseImage = present.Images[lock.Base].Ref
	}
	if w := present.Weights; !q.Settings.Named("weights") && w.Kind == string(target.Random) {
		q.Weights = target.WeightsSource{Kind: target.Random, Seed: w.Seed}
	}
}

// makeLock resolves what the lock of a run has.
func (x *session) makeLock(ctx context.Context) (made lock.Lock, err error) {
	info, err := x.probes.Runtime.Info(ctx)
	if err != nil {
		return made, err
	}
	images, doubts, err := target.Pin(ctx, x.target, registries(x.runtime, info, pinWithin), x.probes.Runtime)
	if err != nil {
		return made, err
	}
	if x.target.Source == target.NGC {
		for _, text := range slices.Concat(x.app.takeUnread(), x.doubts, x.weightsDoubts, doubts) {
			x.warn(text)
		}
		made, err = steps.LockOf(ctx, x.target, nil, x.tools())
		made.Images = images
		return made, err
	}
	x.target = x.target.OnBase(images[lock.Base])
	if err := x.start(ctx); err != nil {
		return made, err
	}
	for _, text := range doubts {
		x.warn(text)
	}
	err = x.runner(func(_ context.Context, values pipeline.Values) (err error) {
		made, err = lock.Parse(lock.File, steps.LockText(values))
		return err
	}).Run(ctx, steps.ForLock(x.target, x.tools()))
	made.Images = images
	return made, err
}

// writeText writes what changed, a line each, or how much there is where all is new.
func (r lockResult) writeText(w io.Writer) error {
	var errs []error
	say := func(format string, args ...any) {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		errs = append(errs, err)
	}
	switch {
	case !r.Written:
		say("%s: nothing changed", r.File)
	case r.PullRequest != "":
		_, err := io.WriteString(w, r.PullRequest)
		return err
	case !r.update:
		say("%s: %s", r.File, printable.Count(len(r.Changes), "fact"))
	default:
		for _, c := range r.Changes {
			say("%s", c.Update())
		}
		say("%s: %s changed", r.File, printable.Count(len(r.Changes), "fact"))
	}
	return errors.Join(errs...)
}
