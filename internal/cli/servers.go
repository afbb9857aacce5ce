package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// servers are those of the container engine that Docker's own CLI would use, after it has answered.
func (a *App) servers(ctx context.Context) (serving.Servers, error) {
	runtime, err := a.runtime(nil, nil)
	if err != nil {
		return serving.Servers{}, err
	}
	info, err := runtime.Info(ctx)
	if err != nil {
		return serving.Servers{}, err
	}
	me, err := owner.Here(time.Now())
	servers := a.serversOn(runtime, me)
	servers.Elsewhere = elsewhere(info)
	return servers, err
}

// elsewhere is the endpoint of a container engine whose loopback address is not this process's, or empty.
func elsewhere(info container.Info) string {
	if info.OtherLoopback {
		return info.Endpoint
	}
	return ""
}

// serversOn are those of a container engine, as me sees them.
func (a *App) serversOn(runtime serving.Runtime, me owner.Identity) serving.Servers {
	return serving.Servers{
		Runtime: runtime, Me: me, Step: string(steps.IDServe), Model: steps.EnsembleModel, Grace: steps.DrainGrace,
		CacheFlags: folders.CacheFlags(a.usualCache()),
	}
}

// withHealth adds to an error of an inference what is wrong with the server at an address of [serving.Servers.At], if there
// is one and it is not healthy.
func (a *App) withHealth(ctx context.Context, addr string, failed error) error {
	fault, ok := errors.AsType[*pipeline.Fault](failed)
	if !ok || fault.Kind != pipeline.NotReady || ctx.Err() != nil {
		return failed
	}
	servers, err := a.servers(ctx)
	if err != nil {
		return failed // whoever asks has an error already
	}
	c, found, err := servers.At(ctx, addr)
	if err != nil || !found {
		return failed
	}
	h, err := servers.Judge(ctx, c)
	if err != nil || h.OK() || h.State == serving.Starting {
		return failed
	}
	if strings.Contains(fault.Error(), h.Reason) {
		h.Model, h.Reason = "", "" // it is said once
	}
	return pipeline.Faultf(pipeline.NotReady, h.Hint(), "%w (the server %s is %s)", fault.Err, c.Name, h)
}
