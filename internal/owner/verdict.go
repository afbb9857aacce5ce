// Package owner says whose a container is: that of a run that lives, of a detached server, of another host, or nobody's
// any more. Labels on the container, the lock of its run and the server file of its workspace are all that it knows.
package owner

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// State is what may become of a container.
type State string

// The states. Only what is Orphaned may be removed without being asked for, and what is Expired by its label.
const (
	Kept     State = "kept"     // its run lives, or its workspace's server file names it
	Orphaned State = "orphaned" // nobody's any more
	Foreign  State = "foreign"  // another host's, which alone could tell
	Expired  State = "expired"  // another host's batch container after the time that it was given
	Unknown  State = "unknown"  // it cannot be told: leave it alone
)

// States are all states, each with what it means of a container, in the order in which people are told of them.
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
		{Foreign, "another host made it, which alone knows: gc --foreign removes it unless it is a server"},
		{Expired, "another host made it, and the time that it was given is over: the next run, or gc, removes it"},
		{Unknown, "it cannot be told whose it is: it is left alone"},
	}
}

// Labels are on everything that dalirun makes, on every host and for every run.
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

// IsServer says whether a container with these labels serves others, perhaps for longer than its run.
func IsServer(labels map[string]string) bool {
	return labels[container.LabelRole] == string(container.RoleServer)
}

// Verdict says whose the container with these labels is, and why in a clause such as "its run r7 lives".
//
// It looks at the lock before the server file, and a run that leaves a server behind writes the file before it ends: so
// there is no moment at which a ready server seems to be nobody's. A host that was restarted has no run that lives, but
// its server may: the container engine can be on another machine.
func Verdict(labels map[string]string, me Identity) (State, string) {
	host := labels[container.LabelHost]
	switch {
	case host == "":
		return Unknown, "it has no host label"
	case host != me.Host:
		return foreign(labels, me.Now)
	}
	run, workspace := labels[container.LabelRun], labels[container.LabelWorkspace]
	if !isRunID(run) {
		return Unknown, fmt.Sprintf("its run label %q names no run", run)
	}
	if !filepath.IsAbs(workspace) {
		return Unknown, fmt.Sprintf("its workspace label %q is not a path", workspace)
	}
	state, why := ofRun(workspace, run, labels[container.LabelBoot], me.Boot)
	if state != Orphaned || labels[container.LabelRole] == string(container.RoleBatch) {
		return state, why
	}
	return ofServer(workspace, run, why)
}

// foreign judges what another host made.
func foreign(labels map[string]string, now time.Time) (State, string) {
	why := "it belongs to the host " + labels[container.LabelHost]
	if labels[container.LabelRole] != string(container.RoleBatch) {
		return Foreign, why
	}
	expires, err := time.Parse(time.RFC3339, labels[container.LabelExpires])
	if err != nil || now.Before(expires) {
		return Foreign, why
	}
	return Expired, fmt.Sprintf("%s and expired at %s", why, labels[container.LabelExpires])
}

// ofRun says whether the run of a container lives.
func ofRun(workspace, run, boot, now string) (State, string) {
	if boot != "" && boot != NoBoot && now != NoBoot && boot != now {
		return Orphaned, "this host was restarted since its run " + run
	}
	state, err := look(workspace, run)
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

// ofServer says whether the server file names the server of a run that is dead, for the reason why.
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
