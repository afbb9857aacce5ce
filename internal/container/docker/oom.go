package docker

import (
	"context"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
)

const (
	// codeKilled is the exit code of a process that SIGKILL ended.
	codeKilled = 128 + int(syscall.SIGKILL)
	// oomDelay bounds the time from the exit until the container engine knows its reason: at most 68 ms in 600 runs.
	oomDelay = time.Second
	// oomAnswer bounds the request for events, which ends oomDelay after the exit unless a proxy holds it up.
	oomAnswer = 5 * oomDelay
)

// complete adds to the exit of a container when it was, and whether the kernel killed the container for memory.
//
// The container engine gets two notices, of that and of the exit, in either order. Docker Engine 20.10 records only a
// notice that comes before the exit. It reports one that comes after it (3 in 100 with four containers at a time) in an
// event alone; newer engines record it too. So complete searches the events until a moment after the exit for a kill
// that this process did not request.
func (h *handle) complete(ctx context.Context, exit *container.Exit) error {
	within, cancel := h.runtime.limit(ctx)
	defer cancel()
	found, err := h.runtime.api.ContainerInspect(within, h.id)
	if cerrdefs.IsNotFound(err) {
		return nil // another client removed the container, and so killed it
	}
	if err != nil {
		return h.runtime.explain(within, "inspect "+h.name, err)
	}
	if found.State == nil {
		return nil
	}
	// A container engine that does not know the time says nothing, or the year 1: both are zero.
	exit.At, _ = time.Parse(time.RFC3339Nano, found.State.FinishedAt)
	exit.OOM = found.State.OOMKilled
	limited := found.HostConfig != nil && found.HostConfig.Memory > 0
	if exit.OOM || exit.Code != codeKilled || !limited || h.stopped.Load() || exit.At.IsZero() {
		return nil
	}
	exit.OOM, err = h.oomEvent(ctx, found, exit.At)
	return err
}

// oomEvent reports whether the container engine has an event that an ended container reached its memory limit. All
// times are by the container engine's clock, which need not be this host's.
func (h *handle) oomEvent(
	ctx context.Context, ended dcontainer.InspectResponse, finished time.Time,
) (bool, error) {
	within, cancel := context.WithTimeout(ctx, oomAnswer)
	defer cancel()
	messages, failures := h.runtime.api.Events(within, events.ListOptions{
		Since: ended.Created, Until: finished.Add(oomDelay).Format(time.RFC3339Nano),
		Filters: filters.NewArgs(
			filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", ended.ID),
			filters.Arg("event", string(events.ActionOOM)),
		),
	})
	select {
	case <-messages:
		return true, nil
	case err := <-failures:
		if ctx.Err() != nil {
			return false, h.runtime.explain(ctx, "events of "+h.name, err)
		}
		return false, nil // the stream ended, or a proxy before the container engine refuses events
	}
}
