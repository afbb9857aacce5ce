package docker

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"

	"github.com/dalirun/dalirun/internal/container"
)

// The engine keeps a container's log until the container is removed. Two files of 50 MB are more than the longest build
// of a TensorRT engine prints, and bound the log of a server that prints without end.
const (
	logSize  = "50m"
	logFiles = "2"
)

// request describes a container to create.
type request struct {
	config  dcontainer.Config
	host    dcontainer.HostConfig
	volumes []volume // in the order of their mounts; only where inputs and outputs are copied
}

// translate returns the request for a Spec.
func (r *Runtime) translate(spec container.Spec, f facts) (request, error) {
	if err := check(spec); err != nil {
		return request{}, err
	}
	var q request
	q.config = dcontainer.Config{
		Image: spec.Image, Cmd: spec.Command, Env: environment(spec.Env), User: r.user(f),
		Labels: r.labels(spec, f),
	}
	if seconds := wholeSeconds(spec.Grace); seconds > 0 {
		q.config.StopTimeout = &seconds
	}
	init := spec.Init
	q.host = dcontainer.HostConfig{
		Init: &init, CapDrop: []string{"ALL"}, SecurityOpt: securityOptions(f),
		ReadonlyRootfs: spec.ReadOnly, ShmSize: spec.Shm, Tmpfs: map[string]string{},
		LogConfig: dcontainer.LogConfig{
			Type:   "json-file",
			Config: map[string]string{"max-size": logSize, "max-file": logFiles},
		},
		Resources: dcontainer.Resources{
			Memory: spec.Memory, MemorySwap: spec.Memory,
			DeviceRequests: deviceRequests(spec.GPUs, f.info),
		},
	}
	for target, size := range spec.Tmpfs {
		q.host.Tmpfs[target] = tmpfsOptions(size)
	}
	if spec.Pids > 0 {
		q.host.PidsLimit = &spec.Pids
	}
	q.network(spec, f)
	if r.copies(spec) {
		copied, err := volumes(spec)
		if err != nil {
			return q, err
		}
		q.volumes = copied
		q.host.Mounts = volumeMounts(q.volumes, q.config.Labels)
		return q, nil
	}
	inputs, outputs, short := splitBinds(spec, f)
	q.host.Binds = short
	q.host.Mounts = slices.Concat(binds(inputs, true), binds(outputs, false))
	return q, nil
}

// splitBinds returns the mounts of a Spec, and those as -v takes them that can be asked for in that way alone. Podman
// writes what the Mounts API says as the value of its --mount, and reads a comma there as the end of an option (seen on
// 4.3.1). A path that has a colon too can be written in neither way.
func splitBinds(spec container.Spec, f facts) (inputs, outputs []container.Mount, short []string) {
	if !f.info.Podman() {
		return spec.Inputs, spec.Outputs, nil
	}
	inputs, short = shortBinds(spec.Inputs, ":ro")
	outputs, more := shortBinds(spec.Outputs, "")
	return inputs, outputs, slices.Concat(short, more)
}

func shortBinds(mounts []container.Mount, options string) (others []container.Mount, short []string) {
	for _, m := range mounts {
		if paths := m.Source + ":" + m.Target; strings.Contains(paths, ",") && strings.Count(paths, ":") == 1 {
			short = append(short, paths+options)
			continue
		}
		others = append(others, m)
	}
	return others, short
}

// check refuses a Spec that is wrong for every engine, also where an engine would not refuse it.
func check(spec container.Spec) error {
	if spec.Network != container.NetworkPublish && len(spec.Publish) > 0 {
		return fmt.Errorf("publishing ports needs network %q", container.NetworkPublish)
	}
	for _, m := range mountsOf(spec) {
		if !filepath.IsAbs(m.Source) || !path.IsAbs(m.Target) {
			return fmt.Errorf("mount %s at %s: both paths must be absolute", m.Source, m.Target)
		}
	}
	return nil
}

func (q *request) network(spec container.Spec, f facts) {
	if spec.Network != container.NetworkPublish {
		q.host.NetworkMode = "none"
		return
	}
	q.host.NetworkMode = "default"
	q.config.ExposedPorts, q.host.PortBindings = nat.PortSet{}, nat.PortMap{}
	for _, p := range spec.Publish {
		binding := nat.PortBinding{HostIP: hostIP(p, f)}
		if p.Host != 0 {
			binding.HostPort = strconv.Itoa(int(p.Host))
		}
		q.config.ExposedPorts[tcp(p.Container)] = struct{}{}
		q.host.PortBindings[tcp(p.Container)] = []nat.PortBinding{binding}
	}
}

// hostIP is the address to publish a port on. Podman's rules take 0.0.0.0 for an address like any other, to which
// nothing is ever sent (seen on 4.3.1 with netavark); no address is all of them there.
func hostIP(p container.Port, f facts) string {
	if addr := p.HostAddress(); !f.info.Podman() || !addr.IsUnspecified() {
		return addr.String()
	}
	return ""
}

// tmpfsOptions are an engine's default options, set explicitly so that they do not depend on it, with mode 1777,
// because the container may run as any user.
func tmpfsOptions(size int64) string {
	return "rw,nosuid,nodev,noexec,mode=1777,size=" + strconv.FormatInt(size, 10)
}

func tcp(port uint16) nat.Port { return nat.Port(strconv.Itoa(int(port)) + "/tcp") }

// user returns UID and GID as the engine takes them. In a rootless engine root is the caller outside.
func (r *Runtime) user(f facts) string {
	if f.info.Rootless {
		return "0:0"
	}
	return strconv.Itoa(r.options.UID) + ":" + strconv.Itoa(r.options.GID)
}

func (r *Runtime) labels(spec container.Spec, f facts) map[string]string {
	labels := map[string]string{container.LabelStep: spec.Step, container.LabelRole: string(spec.Role)}
	if spec.Model != "" {
		labels[container.LabelModel] = spec.Model
	}
	if f.info.Job != "" {
		labels[container.LabelJob] = f.info.Job
	}
	maps.Copy(labels, r.options.Labels)
	return labels
}

func securityOptions(f facts) []string {
	options := []string{"no-new-privileges"}
	if f.selinux {
		// Otherwise the user's own folders would have to be relabelled.
		options = append(options, "label=disable")
	}
	return options
}

func environment(env map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// binds returns bind mounts of the Mounts API, which unlike -v refuses a missing source.
func binds(mounts []container.Mount, readOnly bool) []mount.Mount {
	var list []mount.Mount
	for _, m := range mounts {
		list = append(list, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: readOnly})
	}
	return list
}

func volumeMounts(volumes []volume, labels map[string]string) []mount.Mount {
	var list []mount.Mount
	for _, v := range volumes {
		list = append(list, mount.Mount{
			Type: mount.TypeVolume, Target: v.target,
			VolumeOptions: &mount.VolumeOptions{NoCopy: !v.overlay, Labels: labels},
		})
	}
	return list
}
