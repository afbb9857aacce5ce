package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/dalirun/dalirun/internal/container"
)

// copyLimit bounds a copy to or from an engine, which may be on another host: a model repository is a few hundred MB.
const copyLimit = 10 * time.Minute

// A volume stands for mounts of an engine that cannot see this host's folders. Inputs and outputs are copied into it
// before the container starts, outputs out of it at the end. It is anonymous, so that it goes with its container and
// nothing is left to look for.
//
// An anonymous volume cannot be mounted read-only. An input is read-only all the same: its files belong to nobody, and
// without capabilities even root may not write what is another's.
type volume struct {
	target string // where the container sees it
	output bool
	// overlay keeps what the image has at target: the volume is there for single files beside it.
	overlay bool
	sources []source
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
			return nil, fmt.Errorf("mount %s at %s: an output of a container engine that cannot see this host's files must be a folder", m.Source, m.Target)
		}
		v := volume{target: path.Clean(m.Target), output: true, sources: []source{{m.Source, "."}}}
		if slices.ContainsFunc(list, func(have volume) bool { return have.target == v.target }) {
			return nil, fmt.Errorf("mount %s at %s: another mount is there", m.Source, m.Target)
		}
		list = append(list, v)
	}
	for _, v := range list {
		if v.target == "/" {
			return nil, fmt.Errorf("mount %s: its folder inside the container is /, which cannot be a volume", v.sources[0].host)
		}
	}
	return list, nil
}

// fill copies into the volumes of a container that was created and not started.
//
// It does so through a second container that has them all below one folder, and is never started: a container with a
// read-only root takes files for writable volumes only, none for those below another, and never the owner of a volume
// itself.
func (r *Runtime) fill(ctx context.Context, id, name string, q request) (err error) {
	if len(q.volumes) == 0 {
		return nil
	}
	r.tellOfCopies()
	found, err := r.api.ContainerInspect(ctx, id)
	if err != nil {
		return r.explain(ctx, "inspect "+name, err)
	}
	helper := name + "-copy"
	defer func() { err = errors.Join(err, r.discard(ctx, helper)) }()
	filler := request{config: dcontainer.Config{
		// An engine wants a command also for what never starts.
		Image: q.config.Image, Entrypoint: []string{"/never-started"}, Labels: q.config.Labels,
	}}
	filler.host.NetworkMode = "none"
	for i, v := range q.volumes {
		at := slices.IndexFunc(found.Mounts, func(m dcontainer.MountPoint) bool { return path.Clean(m.Destination) == v.target })
		if at < 0 {
			return fmt.Errorf("container %s has no volume at %s", name, v.target)
		}
		filler.host.Mounts = append(filler.host.Mounts, mount.Mount{
			Type: mount.TypeVolume, Source: found.Mounts[at].Name, Target: path.Join(fillFolder, strconv.Itoa(i)),
			VolumeOptions: &mount.VolumeOptions{NoCopy: true},
		})
	}
	if _, err := r.create(ctx, helper, filler); err != nil {
		return err
	}
	return r.send(ctx, helper, q)
}

// fillFolder is where the helper has its volumes, by number.
const fillFolder = "/volumes"

func (r *Runtime) send(ctx context.Context, helper string, q request) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyLimit, fmt.Errorf("%w within %s", errNoReply, copyLimit))
	defer cancel()
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, q.volumes, q.config.User)
		packed <- err
		writer.CloseWithError(err) // a nil error is the end of the archive
	}()
	err := r.api.CopyToContainer(ctx, helper, fillFolder, reader, dcontainer.CopyToContainerOptions{})
	_ = reader.Close() // ends pack where the engine did not read it to its end
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return fmt.Errorf("copy into the container: %w", packErr)
	}
	return r.explain(ctx, "copy into the container", err)
}

// collect copies the outputs out of a container that has ended.
func (h *handle) collect(ctx context.Context) error {
	for _, v := range h.volumes {
		if !v.output {
			continue
		}
		if err := h.receive(ctx, v.target, v.sources[0].host); err != nil {
			return fmt.Errorf("copy %s of %s to %s: %w", v.target, h.name, v.sources[0].host, err)
		}
	}
	return nil
}

func (h *handle) receive(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyLimit, fmt.Errorf("%w within %s", errNoReply, copyLimit))
	defer cancel()
	archive, _, err := h.runtime.api.CopyFromContainer(ctx, h.id, from)
	if err != nil {
		return h.runtime.explain(ctx, "read", err)
	}
	return errors.Join(unpack(archive, to, path.Base(from)), archive.Close())
}
