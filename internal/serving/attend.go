package serving

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// takenWithin is how long after the end of a container its removal or its start may follow, if somebody removes or restarts it.
const takenWithin = 2 * time.Second

// UsualWatch is how a foreground serve watches its server. An inference costs a tenth of a second of one core on the CPU
// lane. A deadline that is missed three times on end is one and a half minutes: longer than a full batch takes on two cores.
func UsualWatch() Watch {
	return Watch{
		Probe: Probe{Reply: 5 * time.Second, Within: 30 * time.Second},
		Every: 10 * time.Second, Again: time.Second, InARow: 3,
	}
}

// Attend returns nil when ctx ends or somebody stopped the server by [Servers.Stop], and why the server is of no use any more:
// a fault of [pipeline.NotReady]. It kills one that has nothing to drain, which the end of the run would wait for. A
// zero watch is [UsualWatch]; of its probe only the times count. If nobody can watch the server any more, warn is called and the server stays: it may
// be well.
func (s Servers) Attend(ctx context.Context, workspace string, server owner.ServerFile, watch Watch, warn func(text string)) error {
	if watch.Every == 0 {
		watch = UsualWatch()
	}
	var err error
	if watch.Probe, err = s.probe(watch.Probe.Reply, watch.Probe.Within); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	there := host{s.Runtime, server.Container, server.Name}
	sick := watchServer(inner, watch, there, warn)
	ended := make(chan error, 1)
	go func() { ended <- s.ended(inner, workspace, server) }()
	select {
	case h := <-sick:
		if ctx.Err() != nil {
			break
		}
		if h.State == Silent && s.gone(ctx, server.Container) {
			return <-ended // of a server that is gone, how it ended says more
		}
		fault := pipeline.Faultf(pipeline.NotReady, "`"+Start(server.Command)+"` starts it again", "the server %s is %s", server.Name, h)
		return errors.Join(fault, s.kill(ctx, server.Container))
	case err := <-ended:
		if ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	last := context.WithoutCancel(ctx) // it was asked to stop; how the server is decides how that is done
	p, err := s.probe(ReplyWithin, StopWithin)
	if err != nil {
		return err
	}
	if h, err := p.Judge(last, there); err != nil || h.Drains() {
		return err
	}
	return s.kill(last, server.Container)
}

// watchServer gets the health of a server that is found not to work, until ctx ends.
func watchServer(ctx context.Context, watch Watch, there host, warn func(string)) <-chan Health {
	sick := make(chan Health, 1)
	go func() {
		h, err := watch.Wait(ctx, there)
		switch {
		case err == nil:
			sick <- h
		case ctx.Err() == nil:
			warn("whether the server is healthy is not watched any more: " + err.Error())
		}
	}()
	return sick
}

// whereabouts says whether a container is there, and whether it runs.
func (s Servers) whereabouts(ctx context.Context, id string) (there, running bool, err error) {
	all, err := s.Runtime.List(ctx, owner.Labels())
	i := slices.IndexFunc(all, func(c container.Summary) bool { return c.ID == id })
	return i >= 0, i >= 0 && all[i].Running, err
}

// gone says whether a container has ended or was removed. It does not where that cannot be found out.
func (s Servers) gone(ctx context.Context, id string) bool {
	_, running, err := s.whereabouts(ctx, id)
	return err == nil && !running
}

// kill ends a container at once. Its removal is left to the end of the run.
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

// ended waits until a server has ended. It returns nil if ctx ended first or somebody stopped it by [Servers.Stop], and else how it ended.
func (s Servers) ended(ctx context.Context, workspace string, server owner.ServerFile) error {
	var exit container.Exit
	c, err := s.Runtime.Open(ctx, server.Container)
	if err == nil {
		exit, err = c.Wait(ctx)
	}
	if ctx.Err() != nil || owner.StopNoted(workspace, server.Run) {
		return nil //nolint:nilerr // that it was asked to stop is no failure
	}
	again := "`" + Start(server.Command) + "` starts it again"
	taken := "" // what others did to the container
	switch {
	case errors.Is(err, container.ErrNotFound):
		taken = "removed"
	case err != nil:
		return err
	case exit.OOM:
		return pipeline.Faultf(pipeline.NotReady, "", "tritonserver was killed for memory")
	default:
		taken = s.taken(ctx, server.Container)
	}
	if taken == "" && exit.Code == 0 {
		taken = "stopped"
	}
	if taken != "" {
		return pipeline.Faultf(pipeline.NotReady, again, "the server %s was %s, and not by dalirun", server.Name, taken)
	}
	log := filepath.Join(owner.RunDir(workspace, server.Run), s.Step+".log")
	return pipeline.Faultf(pipeline.NotReady, again+"; if it ended by itself, "+log+" says why", "tritonserver exited with status %d", exit.Code)
}

// taken returns what somebody does to a container within a second or two of its end: it is removed or restarted, or nothing.
func (s Servers) taken(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, takenWithin)
	defer cancel()
	tick := time.NewTicker(takenWithin / 20)
	defer tick.Stop()
	for {
		switch there, running, err := s.whereabouts(ctx, id); {
		case err != nil: // it is asked again
		case !there:
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
