package serving

import (
	"context"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/owner"
)

// A Phase is what is done with an attended server, as far as who supervises dalirun has to know.
type Phase string

const (
	// PhaseServing is the phase of a server that is ready, and whose models nobody replaces.
	PhaseServing Phase = "serving"
	// PhaseReloading is the phase in which a `dalirun reload` is at work.
	PhaseReloading Phase = "reloading"
	// PhaseStopping is the last phase, whoever stops the server, and why.
	PhaseStopping Phase = "stopping"
)

// Supervision is how [Servers.Attend] tells a supervisor, as systemd is one, of the server. The zero Supervision tells
// nobody.
type Supervision struct {
	// Enter is called with each phase as it begins, with the last one perhaps twice. It may be nil.
	Enter func(Phase)
	// Alive is called every Beat, by the loop that attends the server: it is not called by a dalirun that is hung. It may
	// be nil if Beat is zero.
	Alive func()
	Beat  time.Duration
}

// lookEvery is how often is looked for what other processes do with an attended server.
const lookEvery = time.Second

func (s Supervision) enter(p Phase) {
	if s.Enter != nil {
		s.Enter(p)
	}
}

// beats ticks every Beat until stop is called. It never ticks without a Beat.
func (s Supervision) beats() (tick <-chan time.Time, stop func()) {
	if s.Beat <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(s.Beat)
	return t.C, t.Stop
}

// changes sends each phase that other processes begin, until ctx ends. It is a goroutine of its own: a disk that does
// not answer must not keep a server from being stopped.
func (s Supervision) changes(ctx context.Context, workspace, run string) <-chan Phase {
	if s.Enter == nil {
		return nil
	}
	begun := make(chan Phase)
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for now := PhaseServing; now != PhaseStopping; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			next := phase(workspace, run)
			if next == now {
				continue
			}
			select {
			case begun <- next:
				now = next
			case <-ctx.Done():
				return
			}
		}
	}()
	return begun
}

// phase is what other processes do with the server of a run.
func phase(workspace, run string) Phase {
	switch {
	case owner.StopNoted(workspace, run):
		return PhaseStopping
	case reloads(workspace):
		return PhaseReloading
	default:
		return PhaseServing
	}
}

// reloads reports whether a `dalirun reload` is at work in a workspace. Its lock says so, which goes with its process:
// one that was killed is not at work.
func reloads(workspace string) bool {
	path := reloadLockPath(workspace)
	if _, err := os.Stat(path); err != nil {
		return false // to look makes no file
	}
	lock := flock.New(path)
	free, err := lock.TryRLock()
	_ = lock.Close() // nothing was written
	return err == nil && !free
}
