package cli

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// servers are those of the container engine, after it has answered.
func (a *App) servers(ctx context.Context) (serving.Servers, error) {
	runtime, err := a.runtime(runtimeOptions{})
	if err != nil {
		return serving.Servers{}, err
	}
	info, err := runtime.Info(ctx)
	if err != nil {
		return serving.Servers{}, err
	}
	me, err := owner.CurrentIdentity(time.Now())
	s := a.serversOn(runtime, info, me)
	s.Warn = func(text string) { warn(a.Stderr, a.asCalled(text)) }
	return s, err
}

// usualEnsemble is what the default recipe's clients ask.
func usualEnsemble() string { return recipe.Recipe{Name: recipe.Default}.CPUNames().Ensemble }

// askedModel is the model of a server that --model means. In the environment and in dalirun.yaml it is what is built,
// which servers have under the name of its ensemble; on the command line it is Triton's own name.
func askedModel(set *pflag.FlagSet) string {
	named, ok := settingsOf(set).Find("model")
	if !ok || named.Nearness() == target.OnCommandLine {
		return named.Value
	}
	if built, err := recipe.Load(named.Value); err == nil {
		return built.CPUNames().Ensemble
	}
	return named.Value
}

// serversOn are those of a container engine, as me sees them.
func (a *App) serversOn(runtime serving.Runtime, info container.Info, me owner.Identity) serving.Servers {
	me.Job = info.Job
	s := serving.Servers{
		Runtime: runtime, Me: me, Step: string(steps.IDServe), Model: usualEnsemble(), Grace: steps.DrainGrace,
		CacheFlags: folders.CacheFlags(a.usualCache()),
	}
	if info.OtherLoopback {
		s.Elsewhere = info.Endpoint
	}
	return s
}
