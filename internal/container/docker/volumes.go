package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/container"
)

// collectLimit bounds the copy of a container's outputs from another host: a model repository is a few hundred MB.
const collectLimit = 10 * time.Minute

// A volume stands for mounts of an engine that cannot see this host's folders. Inputs are copied into it, outputs are
// copied out of it.
//
// Volumes are anonymous, so that they go with their last container and nothing is left to look for. An anonymous one
// cannot be read-only, so those of inputs belong to a container that is never started; the real one takes them over
// read-only by "volumes from", and the first is removed.
type volume struct {
	target   string // where the container sees it
	writable bool
	// overlay keeps what the image has at target: the volume is there for single files beside it.
	overlay bool
	sources []source
	points  []string // folders that other volumes are mounted on, by slash path
	out     string   // host folder that takes its contents at the end
}

// source is a host file or folder, and where in the volume it goes.
type source struct{ host, name string }

// volumes plans the volumes of a Spec.
func volumes(spec container.Spec) ([]volume, error) {
	var list []volume
	for _, m := range spec.Inputs {
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
		v := volume{target: path.Clean(m.Target), sources: []source{{m.Source, "."}}}
		if !info.IsDir() {
			v = volume{target: path.Dir(v.target), overlay: true, sources: []source{{m.Source, path.Base(v.target)}}}
		}
		i := slices.IndexFunc(list, func(have volume) bool { return have.target == v.target })
		if i < 0 {
			list = append(list, v)
			continue
		}
		list[i].sources = append(list[i].sources, v.sources...)
		list[i].overlay = list[i].overlay && v.overlay
	}
	for _, m := range spec.Outputs {
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("mount %s at %s: an output of an engine that cannot see this host's files must be a folder", m.Source, m.Target)
		}
		v := volume{target: path.Clean(m.Target), writable: true, sources: []source{{m.Source, "."}}, out: m.Source}
		if slices.ContainsFunc(list, func(have volume) bool { return have.target == v.target }) {
			return nil, fmt.Errorf("mount %s at %s: another mount is there", m.Source, m.Target)
		}
		list = append(list, v)
	}
	for i, outer := range list {
		if outer.target == "/" {
			return nil, fmt.Errorf("mount %s: its folder inside the container is /, which cannot be a volume", outer.sources[0].host)
		}
		for _, inner := range list {
			// The folder must be there before: nothing can be made in a read-only volume.
			if rest, ok := strings.CutPrefix(inner.target, outer.target+"/"); ok {
				list[i].points = append(list[i].points, rest)
			}
		}
	}
	return list, nil
}

// createFilled creates a container and copies into its volumes.
func (r *Runtime) createFilled(ctx context.Context, name string, q request) (id string, err error) {
	owner, err := ownerOf(q.config.User)
	if err != nil {
		return "", err
	}
	inputs := slices.DeleteFunc(slices.Clone(q.volumes), func(v volume) bool { return v.writable })
	if len(inputs) > 0 {
		helper := name + "-copy"
		defer func() { err = errors.Join(err, r.discard(ctx, helper)) }()
		filler := request{config: dcontainer.Config{
			// It is never started, so the command is of no interest, but an engine wants one.
			Image: q.config.Image, Entrypoint: []string{"/never-started"}, Labels: q.config.Labels,
		}}
		filler.host.NetworkMode = "none"
		filler.host.Mounts = volumeMounts(inputs, q.config.Labels)
		if _, err := r.create(ctx, helper, filler); err != nil {
			return "", err
		}
		for _, v := range inputs {
			if err := r.send(ctx, helper, v, owner); err != nil {
				return "", err
			}
		}
		q.host.VolumesFrom = []string{helper + ":ro"}
	}
	if id, err = r.create(ctx, name, q); err != nil {
		return "", err
	}
	for _, v := range q.volumes {
		if v.writable {
			if err := r.send(ctx, id, v, owner); err != nil {
				return "", err
			}
		}
	}
	return id, nil
}

func (r *Runtime) send(ctx context.Context, id string, v volume, owner *owner) error {
	ctx, cancel := context.WithTimeoutCause(ctx, collectLimit, fmt.Errorf("%w within %s", errNoReply, collectLimit))
	defer cancel()
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, v, owner)
		packed <- err
		writer.CloseWithError(err) // a nil error is the end of the archive
	}()
	err := r.api.CopyToContainer(ctx, id, v.target, reader, dcontainer.CopyToContainerOptions{})
	_ = reader.Close() // ends pack where the engine did not read it to its end
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return fmt.Errorf("copy to %s: %w", v.target, packErr)
	}
	return r.explain(ctx, "copy to "+v.target, err)
}

// collect copies the outputs out of a container that has ended.
func (h *handle) collect(ctx context.Context) error {
	for _, v := range h.volumes {
		if v.out == "" {
			continue
		}
		if err := h.receive(ctx, v); err != nil {
			return fmt.Errorf("copy %s of %s to %s: %w", v.target, h.name, v.out, err)
		}
	}
	return nil
}

func (h *handle) receive(ctx context.Context, v volume) error {
	ctx, cancel := context.WithTimeoutCause(ctx, collectLimit, fmt.Errorf("%w within %s", errNoReply, collectLimit))
	defer cancel()
	archive, _, err := h.runtime.api.CopyFromContainer(ctx, h.id, v.target)
	if err != nil {
		return h.runtime.explain(ctx, "read", err)
	}
	return errors.Join(unpack(archive, v.out, path.Base(v.target)), archive.Close())
}
