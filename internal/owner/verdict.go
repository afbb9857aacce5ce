// Package owner decides whose a container is: a living run's, its workspace's as a detached server, another host's, or
// nobody's any more. It decides by the labels of the container, the lock of its run and the server file of its
// workspace alone.
package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// State says whose a container is, and so whether it may be removed.
type State string

// The states. Only containers that are Orphaned or Expired may be removed without a request.
const (
	Kept     State = "kept"     // its run lives, or its workspace's server file names it
	Orphaned State = "orphaned" // nobody's any more
	Foreign  State = "foreign"  // another host's or job's, which alone knows whether its run lives
	Lost     State = "lost"     // a server whose workspace is not there, or not seen from here
	Expired  State = "expired"  // another host's batch container, after the time in its label
	Unknown  State = "unknown"  // it cannot be decided: the container is left alone
)

// States returns all states with their meanings, in the order in which help texts list them.
func States() []struct {
	State State
	Means string
} {
	return []struct {
		State State
		Means string
	}{
		{Kept, "its run is at work, or it is the server of its workspace, whether it runs or not"},
		{Orphaned, "its run is over: the next run, or gc, removes it"},
		{Foreign, "another host made it, and may be using it: gc --foreign removes it unless it is a server"},
		{Lost, "a server whose workspace is not there, or only not seen from here: gc removes it, and no run does"},
		{Expired, "another host made it, and the time that it was given is over: the next run, or gc, removes it"},
		{Unknown, "it cannot be told whose it is: it is left alone"},
	}
}

// Labels returns the labels that select all containers of dalirun, of every host and run.
func Labels() container.Labels { return container.Labels{container.LabelRun: ""} }

// BatchExpiry is when another host may take a batch container for forgotten: longer than any step's limit.
const BatchExpiry = 24 * time.Hour

// RunLabels mark everything that a run of this host makes for a workspace, with the version of the program.
func RunLabels(me Identity, run, workspace, version string) container.Labels {
	return container.Labels{
		container.LabelRun: run, container.LabelHost: me.Host, container.LabelBoot: me.Boot,
		container.LabelWorkspace: workspace, container.LabelVersion: version,
		container.LabelExpires: me.Now.Add(BatchExpiry).UTC().Format(time.RFC3339),
	}
}

// IsServer reports whether a container with these labels serves others, perhaps for longer than its run.
func IsServer(labels map[string]string) bool {
	return labels[container.LabelRole] == string(container.RoleServer)
}

// Verdict decides whose the container with these labels is. The reason is a clause such as "its run r7 lives".
//
// It reads the lock before the server file, and a run that leaves a server writes that file before it ends. So a ready
// server never seems to be nobody's. After a restart of this host none of its runs lives, but a server may, if the
// container engine is on another machine.
func Verdict(labels map[string]string, me Identity) (State, string) {
	host := labels[container.LabelHost]
	switch {
	case host == "":
		return Unknown, "it has no host label"
	case host != me.Host:
		return foreign(labels, me.Now, "it belongs to the host "+host)
	case labels[container.LabelJob] != me.Job: // with the host's name and machine ID, and another file system
		return foreign(labels, me.Now, "it belongs to a job in another container, or to the host of this one")
	}
	run, workspace := labels[container.LabelRun], labels[container.LabelWorkspace]
	if !isRunID(run) {
		return Unknown, fmt.Sprintf("its run label %q names no run", run)
	}
	if !filepath.IsAbs(workspace) {
		return Unknown, fmt.Sprintf("its workspace label %q is not a path", workspace)
	}
	batch := labels[container.LabelRole] == string(container.RoleBatch)
	if _, err := os.Stat(workspace); errors.Is(err, fs.ErrNotExist) && !batch {
		// A folder that was deleted, that is on a disk that is not mounted, or in another mount namespace. A server may
		// have been left there on purpose; what else a run made is nobody's without its lock.
		return Lost, "its workspace " + workspace + " is not there"
	}
	state, why := ofRun(workspace, run, labels[container.LabelBoot], me.Boot)
	if state != Orphaned || batch {
		return state, why
	}
	return ofServer(workspace, run, why)
}

// foreign decides for a container of another host or job, of which this process cannot tell whether its run lives.
func foreign(labels map[string]string, now time.Time, why string) (State, string) {
	if labels[container.LabelRole] != string(container.RoleBatch) {
		return Foreign, why
	}
	expires, err := time.Parse(time.RFC3339, labels[container.LabelExpires])
	if err != nil || now.Before(expires) {
		return Foreign, why
	}
	return Expired, fmt.Sprintf("%s, and expired at %s", why, labels[container.LabelExpires])
}

// ofRun decides by the run of a container: Kept if the run lives. now is the present boot ID.
func ofRun(workspace, run, boot, now string) (State, string) {
	if boot != "" && boot != NoBoot && now != NoBoot && boot != now {
		return Orphaned, "this host was restarted since its run " + run
	}
	state, err := lockStateOf(workspace, run)
	switch {
	case err != nil:
		return Unknown, fmt.Sprintf("the lock of its run %s cannot be looked at: %v", run, err)
	case state == lockHeld:
		return Kept, fmt.Sprintf("its run %s lives", run)
	case state == lockGone:
		return Orphaned, fmt.Sprintf("its run %s is gone", run)
	default:
		return Orphaned, fmt.Sprintf("its run %s was killed", run)
	}
}

// ofServer decides for the server of a dead run: Kept if the server file names it, else Orphaned for the reason why.
func ofServer(workspace, run, why string) (State, string) {
	s, err := ReadServer(workspace)
	switch {
	case errors.Is(err, ErrNoServer):
		return Orphaned, why
	case err != nil:
		return Unknown, err.Error()
	case s.Run == run:
		return Kept, "it is the detached server of " + workspace
	default:
		return Orphaned, why
	}
}
