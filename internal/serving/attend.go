package serving

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// takenWithin bounds the time from the end of a container to its removal or restart by somebody else.
const takenWithin = 2 * time.Second

// UsualWatch returns the watch of a foreground serve. An inference costs a tenth of a second of one core on the cpu
// lane. Three missed deadlines in a row are one and a half minutes, in which two cores finish a full batch.
func UsualWatch() Watch {
	return Watch{
		Probe: Probe{Reply: 5 * time.Second, Within: 30 * time.Second},
		Every: 10 * time.Second, Retry: time.Second, InARow: 3,
	}
}

// Attend watches a server until ctx ends or somebody stops the server by [Servers.Stop], and then returns nil. A server
// that does not work any more is a fault of [pipeline.NotReady]. Attend kills a server that has nothing to drain, since
// the end of the run would wait for it. A zero watch is [UsualWatch]; of its probe only the times are used. If the
// watch itself fails, warn is called and the server stays. The supervisor is told what phases begin, and that they are
// attended.
func (s Servers) Attend(
	ctx context.Context, workspace string, server owner.ServerFile, watch Watch, supervision Supervision,
	warn func(text string),
) error {
	if watch.Every == 0 {
		watch = UsualWatch()
	}
	var err error
	if watch.Probe, err = s.probe(cmp.Or(server.Ensemble(), s.Model), watch.Probe.Reply, watch.Probe.Within); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	serverHost := newHost(s.Runtime, server.Container, server.Name)
	sick := watchServer(inner, watch, serverHost, warn)
	ended := make(chan error, 1)
	go func() { ended <- s.ended(inner, workspace, server) }()
	changed := supervision.changes(inner, workspace, server.Run)
	beat, stopBeat := supervision.beats()
	defer stopBeat()
	supervision.enter(PhaseServing)
	var h Health
	var end error
	isSick, hasEnded := false, false
	for !isSick && !hasEnded && ctx.Err() == nil {
		select {
		case <-beat:
			supervision.Alive()
		case p := <-changed:
			supervision.enter(p)
		case h = <-sick:
			isSick = true
		case end = <-ended:
			hasEnded = true
		case <-ctx.Done():
		}
	}
	supervision.enter(PhaseStopping)
	switch {
	case ctx.Err() != nil:
		return s.endDead(context.WithoutCancel(ctx), serverHost, server.Container, watch.Probe.Model)
	case hasEnded:
		return end
	case h.State == Silent && s.gone(ctx, server.Container):
		return <-ended // a server that has ended says more than one that does not answer
	}
	fault := pipeline.Faultf(pipeline.NotReady, startsAgain(workspace, server),
		"the server %s is %s", server.Name, h)
	return errors.Join(fault, s.kill(ctx, server.Container))
}

// startsAgain says which command starts a server again: a reload may have changed what it served.
func startsAgain(workspace string, server owner.ServerFile) string {
	if now, err := owner.ServerOf(workspace, server.Run); err == nil {
		server = now
	}
	return "`" + Start(server.Command) + "` starts it again"
}

// endDead ends a server that is to stop and has nothing to drain.
func (s Servers) endDead(ctx context.Context, serverHost triton.Host, id, model string) error {
	p, err := s.probe(model, ReplyWithin, StopWithin)
	if err != nil {
		return err
	}
	if h, err := p.Judge(ctx, serverHost); err != nil || h.Drains() {
		return err
	}
	return s.kill(ctx, id)
}

// watchServer sends the health of the server once it does not work any more. It ends with ctx.
func watchServer(ctx context.Context, watch Watch, serverHost triton.Host, warn func(string)) <-chan Health {
	sick := make(chan Health, 1)
	go func() {
		h, err := watch.Wait(ctx, serverHost)
		switch {
		case err == nil:
			sick <- h
		case ctx.Err() == nil:
			warn("whether the server is healthy is not watched any more: " + err.Error())
		}
	}()
	return sick
}

// state reports whether a container exists, and whether it runs.
func (s Servers) state(ctx context.Context, id string) (exists, running bool, err error) {
	all, err := s.Runtime.List(ctx, owner.Labels())
	i := slices.IndexFunc(all, func(c container.Summary) bool { return c.ID == id })
	return i >= 0, i >= 0 && all[i].Running, err
}

// gone reports whether a container is known to have ended or to be removed.
func (s Servers) gone(ctx context.Context, id string) bool {
	_, running, err := s.state(ctx, id)
	return err == nil && !running
}

// kill ends a container at once. The end of the run removes it.
func (s Servers) kill(ctx context.Context, id string) error {
	c, err := s.Runtime.Open(ctx, id)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Stop(ctx, 0)
}

// ended waits until a server has ended, and returns how. It returns nil if ctx ended first or somebody stopped the
// server by [Servers.Stop].
func (s Servers) ended(ctx context.Context, workspace string, server owner.ServerFile) error {
	var exit container.Exit
	c, err := s.Runtime.Open(ctx, server.Container)
	if err == nil {
		exit, err = c.Wait(ctx)
	}
	if ctx.Err() != nil || owner.StopNoted(workspace, server.Run) {
		return nil //nolint:nilerr // a requested stop is no failure
	}
	restart := startsAgain(workspace, server)
	outsideChange := "" // "removed", "stopped" or "restarted", if not by dalirun
	switch {
	case errors.Is(err, container.ErrNotFound):
		outsideChange = "removed"
	case err != nil:
		return err
	case exit.OOM:
		return pipeline.Faultf(pipeline.NotReady, "", "tritonserver was killed for memory")
	default:
		outsideChange = s.outsideChange(ctx, server.Container)
	}
	if outsideChange == "" && exit.Code == 0 {
		outsideChange = "stopped"
	}
	if outsideChange != "" {
		return pipeline.Faultf(pipeline.NotReady, restart, "the server %s was %s, and not by dalirun", server.Name,
			outsideChange)
	}
	log := filepath.Join(owner.RunDir(workspace, server.Run), s.Step+".log")
	return pipeline.Faultf(pipeline.NotReady, restart+"; if it ended by itself, "+log+" says why",
		"tritonserver exited with status %d", exit.Code)
}

// outsideChange returns what somebody else does to a container within takenWithin of its end: "removed", "restarted" or
// empty.
func (s Servers) outsideChange(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, takenWithin)
	defer cancel()
	tick := time.NewTicker(takenWithin / 20)
	defer tick.Stop()
	for {
		switch exists, running, err := s.state(ctx, id); {
		case err != nil: // the next tick tries again
		case !exists:
			return "removed"
		case running:
			return "restarted"
		}
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
	}
}
