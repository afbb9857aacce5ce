package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) reloadCommand() *cobra.Command {
	r := runFlags{memory: steps.DefaultMemory}
	var o outputFlags
	var inPlace bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Serve what setup built since, without dropping a request",
		Long: `reload puts what setup last built in the place of what the workspace's server serves. The new models are first
loaded beside those that are served, under other names, and have to answer and to pass the comparison of e2e. Only then
do they replace the others, and every answer is wholly of the old ones or of the new. If anything fails, the server goes
on with what it has, and reload ends with 5, or with 6 if the answers to dalirun's own picture are not PyTorch's.

Meanwhile the server needs about twice its memory, which is looked at before. --in-place does without: it loads the
models one by one in the place of what is served, so that answers may be of both meanwhile, and proves them then.

What was built for another image, lane or model needs another server: ` + "`dalirun restart`" + ` starts it.`,
		Example: `  # new weights
  dalirun setup --weights mine.pth
  dalirun reload`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reload(cmd.Context(), &r, o, inPlace)
		},
	}
	r.folderFlags.flags(a, cmd)
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	gpuWaitFlag(cmd, &r.gpuWait)
	cmd.Flags().BoolVar(&inPlace, "in-place", false, "replace the models before they are proven, in the memory of one set")
	return cmd
}

func (a *App) reload(ctx context.Context, r *runFlags, o outputFlags, inPlace bool) (err error) {
	refuse := func(errs ...error) error { return a.refused(errors.Join(errs...), o, report.Files{}) }
	r.request.Command, r.request.Settings = "reload", settingsOf(r.set)
	if err := a.beginRecord(ctx, r.record, r.request.Command); err != nil {
		return refuse(err)
	}
	if r.folders, err = r.find(ctx); err != nil {
		return refuse(err)
	}
	a.folders = r.folders.Named()
	workspace := r.folders.Workspace
	if err := folders.CheckWorkspace(workspace, r.request.Settings); err != nil {
		return refuse(err)
	}
	built, err := owner.ReadBuilt(workspace)
	if errors.Is(err, owner.ErrNothingBuilt) {
		return refuse(pipeline.Faultf(pipeline.NotReady, "`"+serving.CommandIn(workspace, "setup")+"` builds, and `"+
			serving.CommandIn(workspace, "serve")+"` serves it", "%s: %w", workspace, err))
	}
	if err != nil {
		return refuse(err)
	}
	if built.Memory > 0 {
		r.memory = built.Memory // what is no longer in the cache is made anew as setup made it
	}
	x, err := a.begin(ctx, r, o, func(x *session, _ context.Context) error {
		err := json.Unmarshal(built.Target, &x.target)
		if err != nil {
			return pipeline.Faultf(pipeline.Environment, "`"+serving.CommandIn(workspace, "setup")+
				"` writes it anew, with the flags that you use", "the record of what was last built is damaged: %w", err)
		}
		// The record has no labels, and that of an older dalirun no recipe.
		if x.target.Recipe, err = recipe.Load(cmp.Or(x.target.Recipe.Name, recipe.Default)); err != nil {
			return pipeline.Faultf(pipeline.Environment, "`"+serving.CommandIn(workspace, "setup")+"` builds another", "%w", err)
		}
		x.target.Picture, err = steps.Sample()
		if a.recording != nil {
			r.request.Picture = x.target.Picture
			a.recording.request(r.request)
			a.recording.decided(x.target, nil, nil)
		}
		return err
	})
	if err != nil {
		return refuse(err)
	}
	lock, err := serving.LockReload(ctx, workspace)
	if err != nil {
		return refuse(err, x.close())
	}
	repository := x.repository()
	server, file, err := repository.Replaceable(ctx, built)
	if err != nil {
		return refuse(err, x.close(), lock.Release())
	}
	replacement := steps.Replacement{
		Server: steps.ReloadedServer{
			Container: server.ID, Image: file.Image, RestartHint: serving.RestartHint(workspace),
			FinishHint: serving.FinishHint(workspace),
		},
		Folder:    owner.RepositoryPath(workspace),
		Replacing: func(on bool) error { return repository.Replacing(file, built, on) },
		Replaced:  func(stored string) error { return repository.Replaced(ctx, file, built, stored) },
	}
	if !built.ServesAnother(file) {
		err := x.app.explainer().Explain(steps.RemoveCandidates(ctx, x.target, x.tools(), replacement))
		x.collector = newCollector() // of a run that has nothing to do
		for _, p := range []pipeline.Payload{pipeline.RunStarted{Facts: x.facts()}, pipeline.RunEnded{Err: err}} {
			x.collector.Emit(pipeline.Event{Run: x.runID, Time: time.Now().UTC(), Payload: p})
		}
		fmt.Fprintln(a.Stderr, server.Name, "serves what was last built")
		return x.finish(err, x.print(err, o, func(io.Writer) error { return nil }), lock.Release())
	}
	if err := x.start(ctx); err != nil {
		return refuse(err, x.close(), lock.Release())
	}
	list, err := steps.ForReload(x.target, x.tools(), replacement, inPlace)
	if err == nil {
		runner := x.runner(nil)
		runner.Explain = repository.ExplainStop(server, runner.Explain)
		err = runner.Run(ctx, list)
	}
	return x.finish(err, x.print(err, o, func(out io.Writer) error {
		_, err := fmt.Fprintln(out, "reloaded", server.Name)
		return err
	}), lock.Release())
}
