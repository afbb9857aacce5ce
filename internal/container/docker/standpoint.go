package docker

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	dcontainer "github.com/docker/docker/api/types/container"
)

// standpoint is how this process is placed relative to the engine.
type standpoint struct {
	otherLoopback bool     // the engine publishes ports on a loopback address that is not this process's
	job           string   // ID of the engine's container that this process is in; empty if it is in none
	networks      []string // IDs of the engine's networks that this process is in, with job
}

// findStandpoint asks the engine and this host where this process is.
//
// If this process is in a container, the engine either knows that container or not. A container that it does not know
// is of another engine, or of the same host by another program, such as Kubernetes. Then the process that listens on
// the engine's socket decides.
func (r *Runtime) findStandpoint(ctx context.Context, rootless bool) standpoint {
	mounts, _ := os.ReadFile(mountinfo)
	self := containedIn(string(mounts))
	if self.id != "" {
		if found, err := r.api.ContainerInspect(ctx, self.id); err == nil {
			return standpoint{!found.HostConfig.NetworkMode.IsHost(), r.ownContainer(ctx, found.ID), networksOf(found)}
		}
	}
	return standpoint{otherLoopback: r.hasOtherLoopback(ctx, rootless, self.contained)}
}

// ownContainer returns the ID of the container that this process is in, if it can only be the one that its mounts name:
// a container in the network of another one has the files of that, and may outlive it.
func (r *Runtime) ownContainer(ctx context.Context, id string) string {
	all, err := r.api.ContainerList(ctx, dcontainer.ListOptions{All: true})
	if err != nil || sharesNetwork(all, id) {
		return ""
	}
	return id
}

// sharesNetwork reports whether another container is in the network of the container with an ID.
func sharesNetwork(all []dcontainer.Summary, id string) bool {
	return slices.ContainsFunc(all, func(c dcontainer.Summary) bool { return c.HostConfig.NetworkMode == "container:"+id })
}

// hasOtherLoopback decides for a process that is in no container of the engine.
func (r *Runtime) hasOtherLoopback(ctx context.Context, rootless, contained bool) bool {
	if r.remote {
		return true
	}
	socket, ok := strings.CutPrefix(r.endpoint, "unix://")
	if !ok {
		return false // a TCP port of this loopback address
	}
	pid, err := listener(ctx, socket)
	switch {
	case err != nil:
		return false
	case pid == 0: // the engine is in a process namespace that this process does not see
		return contained
	case rootless: // it publishes in its user's network namespace, and runs in another one
		return false
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net") // only root may read root's
	if err != nil {
		return false
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return err == nil && ours != theirs
}

func networksOf(c dcontainer.InspectResponse) []string {
	var ids []string
	if c.NetworkSettings == nil {
		return nil
	}
	for _, n := range c.NetworkSettings.Networks {
		ids = append(ids, n.NetworkID)
	}
	return ids
}

// self is the container that a process is in.
type self struct {
	contained bool
	id        string // with Docker or Podman
}

// containedIn finds the container in the text of mountinfo. A container runtime mounts files over these three paths,
// each from a folder of the container: with Docker /var/lib/docker/containers/ID, with Podman
// …/overlay-containers/ID/userdata.
func containedIn(mounts string) self {
	var s self
	for m := range mountsIn(mounts) {
		switch m.point {
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf":
			s.contained = true
			if found := regexp.MustCompile(`containers/([0-9a-f]{64})/`).FindStringSubmatch(m.root); found != nil {
				s.id = found[1]
			}
		}
	}
	return s
}
