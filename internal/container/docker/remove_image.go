package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	dimage "github.com/docker/docker/api/types/image"

	"github.com/dalirun/dalirun/internal/container"
)

// removeImageWithin bounds the removal of an image. A busy disk deletes the files of NVIDIA's, 20 GB of them, in
// minutes.
const removeImageWithin = 10 * time.Minute

// ListImages returns the local images.
func (r *Runtime) ListImages(ctx context.Context) ([]container.Image, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	rows, err := r.api.ImageList(ctx, dimage.ListOptions{})
	if err != nil {
		return nil, r.explain(ctx, "list images", err)
	}
	all := make([]container.Image, len(rows))
	for i, row := range rows {
		all[i] = container.Image{
			ID: row.ID, Tags: named(row.RepoTags), Digests: named(row.RepoDigests), Labels: row.Labels,
			Size: row.Size, Created: time.Unix(row.Created, 0),
		}
	}
	return all, nil
}

// named leaves out what engines list of an image without a tag or a digest.
func named(refs []string) []string {
	return slices.DeleteFunc(slices.Clone(refs), func(ref string) bool { return strings.HasPrefix(ref, "<none>") })
}

// RemoveImage removes an image without force, by which Podman would remove containers too. Without it an engine refuses
// one that has tags in several repositories: all tags but one go first, and come back if the image has to stay.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	what := "remove image " + id
	ctx, cancel := context.WithTimeoutCause(ctx, removeImageWithin,
		fmt.Errorf("%w within %s", errNoReply, removeImageWithin))
	defer cancel()
	found, err := r.api.ImageInspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return r.explain(ctx, what, err)
	}
	rows, err := r.api.ContainerList(ctx, dcontainer.ListOptions{All: true})
	if err != nil {
		return r.explain(ctx, what, err)
	}
	for _, row := range rows {
		if row.ImageID == found.ID { // an engine removes the tags of an image whose containers have ended
			return &runtimeError{
				kind: container.ErrInUse, cause: container.ErrInUse,
				text: fmt.Sprintf("%s: %v by the container %s", what, container.ErrInUse, row.ID),
			}
		}
	}
	var gone []string
	for _, tag := range found.RepoTags[min(1, len(found.RepoTags)):] {
		if _, err = r.api.ImageRemove(ctx, tag, dimage.RemoveOptions{}); err != nil {
			break
		}
		gone = append(gone, tag)
	}
	if err == nil {
		_, err = r.api.ImageRemove(ctx, found.ID, dimage.RemoveOptions{PruneChildren: true})
	}
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	again, cancelAgain := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancelAgain()
	for _, tag := range gone {
		_ = r.api.ImageTag(again, found.ID, tag) // the error of the removal says more
	}
	if cerrdefs.IsConflict(err) {
		return &runtimeError{kind: container.ErrInUse, cause: err, text: what + ": " + message(err)}
	}
	return r.explain(ctx, what, err)
}
