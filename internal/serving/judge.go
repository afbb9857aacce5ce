package serving

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/triton"
)

const (
	// ReplyWithin bounds the answer to a request that needs no model: it takes a millisecond, or more on a busy
	// machine.
	ReplyWithin = 2 * time.Second
	// StatusWithin bounds the inference of [Servers.Judge]. A batch of 32 pictures took 3 s on two busy cores. A dead
	// Python stub is found after 1 s, and a server that hangs after ReplyWithin.
	StatusWithin = 10 * time.Second
	// StopWithin bounds the inference by which a server is judged before it is stopped. A dead Python stub is found
	// after a second, which leaves time for a second try; a healthy server answers in a tenth of that. The whole stop
	// takes 2 s then.
	StopWithin = 1500 * time.Millisecond
)

// Judge returns the health of the server in a container and, if something is wrong, the command that mends it. It takes
// at most 20 s for the connection, StatusWithin, and four times ReplyWithin. The error is the cause of ctx's end.
func (s Servers) Judge(ctx context.Context, c Container) (Health, error) {
	h, err := s.health(ctx, c, StatusWithin)
	if err != nil || h.OK() || h.State == NotJudged {
		return h, err
	}
	file, err := c.File()
	if errors.Is(err, owner.ErrNoServer) && c.Owner == owner.Kept && !c.Paused {
		reason := "its run " + c.Run() + " has not made it ready yet"
		if !c.Running { // it was just created, or its run has not noticed its end
			reason = "it does not run, and its run " + c.Run() + " has not ended"
		}
		return Health{State: Starting, Reason: reason}, nil
	}
	if user, err := owner.OtherUser(c.Workspace(), c.Run()); err == nil && user != "" {
		h.Reason += "; it belongs to " + user + ", whose `dalirun ps` says what mends it"
		return h, nil
	}
	if c.Paused { // with its models loaded, and with the requests that it had
		h.Mend = shell.Line("docker", "unpause", c.Name)
		return h, nil
	}
	if !c.ServesOthers() { // the run that verified with it is gone
		h.Mend = Start([]string{"gc"})
		return h, nil
	}
	if !filepath.IsAbs(c.Workspace()) {
		h.Reason += "; its labels name no workspace in which another one could be started"
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

// health returns the health of the server in a container by an inference, which within bounds.
func (s Servers) health(ctx context.Context, c Container, within time.Duration) (Health, error) {
	switch {
	case !c.Running:
		return Health{State: Ended, Reason: "its container has ended"}, nil
	case c.Paused:
		return Health{State: Silent, Reason: "its container is paused"}, nil
	case c.GRPC() == "":
		return Health{State: Silent, Reason: "its gRPC port is not published"}, nil
	}
	p, err := s.probe(s.ModelOf(c), ReplyWithin, within)
	if err != nil {
		return Health{}, err
	}
	return p.Judge(ctx, s.Host(c))
}

// probe returns the inference of a model that a healthy server answers.
func (s Servers) probe(model string, reply, within time.Duration) (Probe, error) {
	picture, err := Picture()
	return Probe{Model: model, Picture: picture, Reply: reply, Within: within}, err
}

// usualStart returns the arguments of dalirun that replace a server of which only the container is known.
func (s Servers) usualStart(c Container) []string {
	start := append([]string{"serve", "--detach", "--workspace=" + c.Workspace()}, s.CacheFlags...)
	for _, p := range []struct {
		flag string
		port uint16
	}{{"http-port", triton.PortHTTP}, {"grpc-port", triton.PortGRPC}, {"metrics-port", triton.PortMetrics}} {
		if addr, ok := c.Ports[p.port]; ok {
			start = append(start, fmt.Sprintf("--%s=%d", p.flag, addr.Port()))
		}
	}
	if addr, ok := c.Ports[triton.PortGRPC]; ok && !addr.Addr().IsLoopback() {
		start = append(start, "--host="+addr.Addr().String())
	}
	return start
}

// Hint returns what to do about a server that is not healthy; empty if that is not known.
func (h Health) Hint() string {
	if h.Mend == "" {
		return ""
	}
	if h.MendNote != "" {
		return "`" + h.Mend + "` mends it; " + h.MendNote
	}
	return "`" + h.Mend + "` mends it"
}
