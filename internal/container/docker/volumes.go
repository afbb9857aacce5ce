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

// A volume replaces mounts for an engine that does not see this host's folders. Inputs and outputs are copied into it
// before the container starts, and outputs out of it when the container has ended. It is anonymous, so that it is
// removed with its container.
//
// An anonymous volume cannot be mounted read-only. An input is read-only nevertheless: its files belong to nobody, and
// without capabilities even root may not write another user's files.
type volume struct {
	target string // its path in the container
	output bool
	// overlay keeps the image's files at target, beside which the volume adds single files.
	overlay bool
	sources []source
}

// source is a host file or folder, and its path in the volume.
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
		i := slices.IndexFunc(list, func(planned volume) bool { return planned.target == v.target })
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
			return nil, fmt.Errorf("mount %s at %s: an output of a container engine that cannot see this host's "+
				"files must be a folder", m.Source, m.Target)
		}
		v := volume{target: path.Clean(m.Target), output: true, sources: []source{{m.Source, "."}}}
		if slices.ContainsFunc(list, func(planned volume) bool { return planned.target == v.target }) {
			return nil, fmt.Errorf("mount %s at %s: another mount is there", m.Source, m.Target)
		}
		list = append(list, v)
	}
	for _, v := range list {
		if v.target == "/" {
			return nil, fmt.Errorf("mount %s: its folder inside the container is /, which cannot be a volume",
				v.sources[0].host)
		}
	}
	return list, nil
}

// fill copies inputs and outputs into the volumes of a container that was created and not started.
//
// It copies through a second container that has all volumes below one folder, and that is never started. A container
// with a read-only root accepts files for writable volumes only, none for a volume below another, and never the owner
// of a volume itself.
func (r *Runtime) fill(ctx context.Context, id, name string, q request) (err error) {
	if len(q.volumes) == 0 {
		return nil
	}
	r.noticeCopies()
	found, err := r.api.ContainerInspect(ctx, id)
	if err != nil {
		return r.explain(ctx, "inspect "+name, err)
	}
	helper := name + "-copy"
	defer func() { err = errors.Join(err, r.discard(ctx, helper)) }()
	filler := request{config: dcontainer.Config{
		// An engine requires a command also for a container that never starts.
		Image: q.config.Image, Entrypoint: []string{"/never-started"}, Labels: q.config.Labels,
	}}
	filler.host.NetworkMode = "none"
	for i, v := range q.volumes {
		at := slices.IndexFunc(found.Mounts,
			func(m dcontainer.MountPoint) bool { return path.Clean(m.Destination) == v.target })
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
	f, err := r.facts(ctx)
	if err != nil {
		return err
	}
	if f.info.Podman() {
		return r.fillEach(ctx, helper, q)
	}
	return r.send(ctx, helper, fillFolder, dcontainer.CopyToContainerOptions{}, func(w io.Writer) error {
		return pack(w, q.volumes, q.config.User)
	})
}

// fillEach copies into one volume after the other. Podman finds the volume of a container that is not started by the
// folder that the request names; what an archive has below that folder lands beside the other volumes, not in them, and
// the owner of a volume itself is taken (both seen on 4.3.1).
func (r *Runtime) fillEach(ctx context.Context, helper string, q request) error {
	for i, v := range q.volumes {
		at := path.Join(fillFolder, strconv.Itoa(i))
		err := r.send(ctx, helper, at, dcontainer.CopyToContainerOptions{}, func(w io.Writer) error {
			return packAlone(w, v, q.config.User)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Refresh copies what is at the source of a mount into the volume that has a copy of the input above it.
func (h *handle) Refresh(ctx context.Context, m container.Mount) error {
	limited, cancel := h.runtime.limit(ctx)
	defer cancel()
	found, err := h.runtime.api.ContainerInspect(limited, h.id)
	if err != nil {
		return h.runtime.explain(limited, "inspect "+h.name, err)
	}
	if !inVolume(found.Mounts, m.Target) {
		return nil
	}
	h.runtime.noticeCopies()
	overwrite := dcontainer.CopyToContainerOptions{AllowOverwriteDirWithFile: true} // and a file with a folder
	return h.runtime.send(ctx, h.id, path.Dir(m.Target), overwrite, func(w io.Writer) error { return packInput(w, m) })
}

// inVolume reports whether the mount that has a path of a container is a volume.
func inVolume(mounts []dcontainer.MountPoint, inside string) bool {
	var nearest dcontainer.MountPoint
	for _, m := range mounts {
		if isBelow(path.Clean(inside), path.Clean(m.Destination)) && len(m.Destination) > len(nearest.Destination) {
			nearest = m
		}
	}
	return nearest.Type == mount.TypeVolume
}

// fillFolder is the folder of the volumes, by number, in the second container.
const fillFolder = "/volumes"

// send unpacks an archive in a folder of a container.
func (r *Runtime) send(
	ctx context.Context, id, folder string, options dcontainer.CopyToContainerOptions, write func(io.Writer) error,
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyLimit, fmt.Errorf("%w within %s", errNoReply, copyLimit))
	defer cancel()
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := write(writer)
		packed <- err
		writer.CloseWithError(err) // a nil error is the end of the archive
	}()
	err := r.api.CopyToContainer(ctx, id, folder, reader, options)
	_ = reader.Close() // ends pack if the engine did not read to the end
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

func (h *handle) receive(ctx context.Context, target, folder string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyLimit, fmt.Errorf("%w within %s", errNoReply, copyLimit))
	defer cancel()
	f, err := h.runtime.facts(ctx)
	if err != nil {
		return err
	}
	tops := []string{path.Base(target)}
	if f.info.Podman() { // it calls a volume's folder "/" (seen on 4.3.1)
		tops = append(tops, "")
	}
	archive, _, err := h.runtime.api.CopyFromContainer(ctx, h.id, target)
	if err != nil {
		return h.runtime.explain(ctx, "read", err)
	}
	return errors.Join(unpack(archive, folder, tops...), archive.Close())
}
