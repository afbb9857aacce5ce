package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
)

// errStuck says that a container did not go.
var errStuck = errors.New("it is still there")

// lookAgain is how long to wait between two tries to remove a container that the container engine is busy with.
const lookAgain = 20 * time.Millisecond

// discard removes what a failed attempt may have left. It does so also where ctx has ended.
func (r *Runtime) discard(ctx context.Context, name string) error {
	return r.remove(context.WithoutCancel(ctx), name, cleanup)
}

// Remove kills and removes a container and its anonymous volumes.
func (r *Runtime) Remove(ctx context.Context, id string) error { return r.remove(ctx, id, answer) }

// remove returns nil when the container is gone.
//
// Neither of the container engine's two ways to say that there is nothing to do means that. A removal that is in progress is somebody
// else's, and our caller counts on its end. "No such container" is also said of one that is being created: Docker Engine 20.10 lists it some
// milliseconds before any other request finds it, and every version lists, as dead, one that it clears away because its creation
// failed. A client that was killed leaves them so, in about 1 of 10 creations that are abandoned within 60 ms.
// So what is not found is gone when it is not listed either.
func (r *Runtime) remove(ctx context.Context, id string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %s", errNoReply, limit))
	defer cancel()
	what := "remove container " + id
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	var last error // what the container engine said of a container that is still there
	for {
		busy, err := r.tryRemove(ctx, id)
		if busy {
			last = err
		} else if err == nil || last == nil || ctx.Err() == nil {
			return r.explain(ctx, what, err)
		}
		select {
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		if cause := context.Cause(ctx); !errors.Is(cause, errNoReply) {
			return fmt.Errorf("%s: %w", what, cause)
		}
		return &runtimeError{
			cause: errors.Join(errStuck, last),
			text:  fmt.Sprintf("%s: %v after %s, and the container engine says: %s", what, errStuck, limit, words(last)),
		}
	}
}

// tryRemove says whether the container engine is busy with the container, so that another try is worth it, or returns nil if it is gone.
func (r *Runtime) tryRemove(ctx context.Context, id string) (busy bool, err error) {
	err = r.api.ContainerRemove(ctx, id, dcontainer.RemoveOptions{Force: true, RemoveVolumes: true})
	if !cerrdefs.IsNotFound(err) {
		return isRemoving(err), err
	}
	listed, listErr := r.listed(ctx, id)
	if listErr != nil || !listed {
		return false, listErr
	}
	return true, err
}

// listed says whether the container engine lists a container. Its filters by ID and by name go through the index that does not know
// the container yet.
func (r *Runtime) listed(ctx context.Context, id string) (bool, error) {
	rows, err := r.api.ContainerList(ctx, dcontainer.ListOptions{All: true})
	return slices.ContainsFunc(rows, func(row dcontainer.Summary) bool {
		return row.ID == id || slices.Contains(row.Names, "/"+id)
	}), err
}
