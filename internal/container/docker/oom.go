package docker

import (
	"context"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

const (
	// codeKilled is the exit code of a process that SIGKILL ended.
	codeKilled = 128 + int(syscall.SIGKILL)
	// oomDelay is how long after the exit the container engine may hear of its reason: 68 ms were the most in 600 runs.
	oomDelay = time.Second
	// oomAnswer bounds the look at the events, which ends oomDelay after the exit where they come through.
	oomAnswer = 5 * oomDelay
)

// outOfMemory says whether the kernel killed the container for memory.
//
// The container engine hears of that and of the exit by two notices, in either order. Docker Engine 20.10 writes down only what comes
// before the exit; of what comes after it (3 in 100 where four run at a time) it tells in an event and nowhere else. Newer ones write it
// down then. So a kill that nobody here has asked for is looked up among the events, those until a moment after the exit.
func (h *handle) outOfMemory(ctx context.Context, code int) (bool, error) {
	within, cancel := h.runtime.limit(ctx)
	defer cancel()
	found, err := h.runtime.api.ContainerInspect(within, h.id)
	if cerrdefs.IsNotFound(err) {
		return false, nil // removed by somebody else, who killed it
	}
	if err != nil {
		return false, h.runtime.explain(within, "inspect "+h.name, err)
	}
	if found.State == nil || found.State.OOMKilled {
		return found.State != nil, nil
	}
	limited := found.HostConfig != nil && found.HostConfig.Memory > 0
	if code != codeKilled || !limited || h.stopped.Load() {
		return false, nil
	}
	return h.oomEvent(ctx, found)
}

// oomEvent says whether the container engine tells that an ended container came to its limit. All times are the container engine's,
// whose clock need not be this host's.
func (h *handle) oomEvent(ctx context.Context, ended dcontainer.InspectResponse) (bool, error) {
	finished, err := time.Parse(time.RFC3339Nano, ended.State.FinishedAt)
	if err != nil {
		return false, nil // a container engine that does not say when has no event to find either
	}
	within, cancel := context.WithTimeout(ctx, oomAnswer)
	defer cancel()
	messages, failures := h.runtime.api.Events(within, events.ListOptions{
		Since: ended.Created, Until: finished.Add(oomDelay).Format(time.RFC3339Nano),
		Filters: filters.NewArgs(
			filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", ended.ID), filters.Arg("event", string(events.ActionOOM)),
		),
	})
	select {
	case <-messages:
		return true, nil
	case err := <-failures:
		if ctx.Err() != nil {
			return false, h.runtime.explain(ctx, "events of "+h.name, err)
		}
		return false, nil // it is the end of the stream, or of a proxy before the container engine that lets no events through
	}
}
