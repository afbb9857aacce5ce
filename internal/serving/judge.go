package serving

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/triton"
)

const (
	// ReplyWithin is how long a server may take for what needs no model: a millisecond, or more where its machine is busy.
	ReplyWithin = 2 * time.Second
	// StatusWithin bounds the inference by which [Servers.Judge] judges. A batch of 32 pictures took 3 s on two cores that
	// others used too; a dead stub is told after 1 s, and a server that is paused after ReplyWithin.
	StatusWithin = 10 * time.Second
	// StopWithin bounds the one by which a server that is to be stopped is judged. A dead stub is told after a second, and
	// there is time for a second try, which a healthy server answers in a tenth of that; the whole stop takes 2 s then.
	StopWithin = 1500 * time.Millisecond
)

// NotJudged is the state of a server of which it could not be found out how it is. No inference says it.
const NotJudged State = "unknown"

// Judge finds out how the server in a container is and, if something is wrong with it, which command mends that. It takes
// at most StatusWithin and four times ReplyWithin. The error is the cause of a ctx that ended before.
func (s Servers) Judge(ctx context.Context, c Container) (Health, error) {
	h, err := s.ask(ctx, c, StatusWithin)
	if err != nil || h.OK() {
		return h, err
	}
	file, err := c.File()
	if errors.Is(err, owner.ErrNoServer) && c.Owner == owner.Kept {
		reason := "its run " + c.Run() + " has not made it ready yet"
		if !c.Running { // created, or it ended and the run has not said so
			reason = "it does not run, and its run " + c.Run() + " has not ended"
		}
		return Health{State: Starting, Reason: reason}, nil
	}
	if user, err := owner.OtherUser(c.Workspace(), c.Run()); err == nil && user != "" {
		h.Reason += "; it belongs to " + user + ", whose `dalirun ps` says what mends it"
		return h, nil
	}
	if !c.ServesOthers() { // of a run that verifies with it, and that is gone
		h.Mend = Start([]string{"gc"})
		return h, nil
	}
	start := file.Command
	if len(start) == 0 {
		start = s.usualStart(c)
		h.MendNote = "nothing says with which flags it was started: this starts one with the usual flags"
		if len(c.Ports) > 0 {
			h.MendNote += ", on its ports"
		}
		if err != nil && !errors.Is(err, owner.ErrNoServer) {
			h.MendNote += " (" + err.Error() + ")"
		}
	}
	h.Mend = Mend(c.Workspace(), start)
	return h, nil
}

// ask is the health of the server in a container by an inference, for which it has the time within.
func (s Servers) ask(ctx context.Context, c Container, within time.Duration) (Health, error) {
	switch {
	case !c.Running:
		return Health{State: Ended, Reason: "its container has ended"}, nil
	case c.GRPC() == "":
		return Health{State: Silent, Reason: "its gRPC port is not published"}, nil
	}
	p, err := s.probe(ReplyWithin, within)
	if err != nil {
		return Health{}, err
	}
	return p.Judge(ctx, s.Host(c))
}

// probe is the inference that a server answers.
func (s Servers) probe(reply, within time.Duration) (Probe, error) {
	picture, err := Picture()
	return Probe{Model: s.Model, Picture: picture, Reply: reply, Within: within}, err
}

// usualStart are the arguments of dalirun that start a server in the place of one of which only the container is known.
func (s Servers) usualStart(c Container) []string {
	start := append([]string{"serve", "--detach", "--workspace=" + c.Workspace()}, s.CacheFlags...)
	for _, p := range []struct {
		flag string
		port uint16
	}{{"http-port", triton.PortHTTP}, {"grpc-port", triton.PortGRPC}, {"metrics-port", triton.PortMetrics}} {
		if at, ok := c.Ports[p.port]; ok {
			start = append(start, fmt.Sprintf("--%s=%d", p.flag, at.Port()))
		}
	}
	if at, ok := c.Ports[triton.PortGRPC]; ok && !at.Addr().IsLoopback() {
		start = append(start, "--host="+at.Addr().String())
	}
	return start
}

// Hint is what to do about a server that is not healthy; empty where nobody knows.
func (h Health) Hint() string {
	if h.Mend == "" {
		return ""
	}
	if h.MendNote != "" {
		return "`" + h.Mend + "` mends it; " + h.MendNote
	}
	return "`" + h.Mend + "` mends it"
}
