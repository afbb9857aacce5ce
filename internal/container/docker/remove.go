package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// errStuck says that a container, or a volume of it, could not be removed in time.
var errStuck = errors.New("it is still there")

// lookAgain is the pause between two tries to remove a container that the container engine is busy with.
const lookAgain = 20 * time.Millisecond

// discard removes the container that a failed attempt may have left, also after ctx has ended.
func (r *Runtime) discard(ctx context.Context, name string) error {
	return r.remove(context.WithoutCancel(ctx), name, cleanup)
}

// Remove kills and removes a container and its anonymous volumes.
func (r *Runtime) Remove(ctx context.Context, id string) error { return r.remove(ctx, id, answer) }

// remove returns nil when the container is gone.
//
// The container engine has two answers by which there seems to be nothing to remove, and neither proves it. One is that
// another client's removal is in progress, for whose end the caller must wait. The other, "No such container", is also
// the answer for a container that is being created: Docker Engine 20.10 lists it some milliseconds before any other
// request finds it, and every version lists, as dead, a container that it removes because its creation failed. A killed
// client leaves such containers, in about 1 of 10 creations that are abandoned within 60 ms. So a container that is not
// found is gone only if it is not listed either.
func (r *Runtime) remove(ctx context.Context, id string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %s", errNoReply, limit))
	defer cancel()
	what := "remove container " + id
	r.kill(ctx, id)
	volumes := r.ownVolumes(ctx, id)
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	var last error // of the last try
	for {
		busy, err := r.tryRemove(ctx, id)
		if !busy && err == nil {
			volumes, busy, err = r.tryRemoveVolumes(ctx, volumes)
			if err != nil { // the container is gone
				what = fmt.Sprintf("remove volume %s of container %s", volumes[0], id)
			}
		}
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
			text: fmt.Sprintf("%s: %v after %s, and the container engine says: %s", what, errStuck, limit,
				message(last)),
		}
	}
}

// kill ends what is to be removed where a forced removal does not: Podman sends the stop signal first, and waits for as
// long as a container may take to stop (seen on 4.3.1), which is longer than a removal may take. The removal itself
// says what is wrong with a container that could not be killed.
func (r *Runtime) kill(ctx context.Context, id string) {
	if f, err := r.facts(ctx); err == nil && f.info.Podman() {
		_ = r.api.ContainerKill(ctx, id, "KILL")
	}
}

// tryRemove removes a container. It reports whether the container engine is busy with the container, so that it must be
// tried again.
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

// ownVolumes returns the anonymous volumes that were made for a container by its Spec. What is not found has none.
func (r *Runtime) ownVolumes(ctx context.Context, id string) []string {
	found, err := r.api.ContainerInspect(ctx, id)
	if err != nil || found.ContainerJSONBase == nil || found.HostConfig == nil {
		return nil
	}
	var names []string
	for _, asked := range found.HostConfig.Mounts {
		if asked.Type != mount.TypeVolume || asked.Source != "" {
			continue
		}
		for _, mounted := range found.Mounts {
			if mounted.Destination == asked.Target && mounted.Name != "" {
				names = append(names, mounted.Name)
			}
		}
	}
	return names
}

// tryRemoveVolumes removes the volumes that a removed container has left, and returns those that remain. An engine
// under load leaves a volume that is still mounted somewhere, and says so in its own log alone (seen on Docker Engine
// 20.10).
func (r *Runtime) tryRemoveVolumes(ctx context.Context, names []string) (remain []string, busy bool, err error) {
	for i, name := range names {
		if err := r.api.VolumeRemove(ctx, name, false); err != nil && !cerrdefs.IsNotFound(err) {
			return names[i:], cerrdefs.IsConflict(err), err
		}
	}
	return nil, false, nil
}

// listed reports whether the container engine lists a container. It does not use filters by ID and by name, which use
// the index that lacks a container that is being created.
func (r *Runtime) listed(ctx context.Context, id string) (bool, error) {
	rows, err := r.api.ContainerList(ctx, dcontainer.ListOptions{All: true})
	return slices.ContainsFunc(rows, func(row dcontainer.Summary) bool {
		return row.ID == id || slices.Contains(row.Names, "/"+id)
	}), err
}
