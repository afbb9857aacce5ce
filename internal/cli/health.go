package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

const (
	// replyWithin is how long a server may take for what needs no model: a millisecond, or more where its machine is busy.
	replyWithin = 2 * time.Second
	// statusWithin bounds the inference by which ps and classify judge. A batch of 32 pictures took 3 s on two cores that others
	// used too; a dead stub is told after 1 s, and a server that is paused after replyWithin.
	statusWithin = 10 * time.Second
	// stopWithin bounds the one by which stop judges. A dead stub is told after a second, and there is time for a second try, which
	// a healthy server answers in a tenth of that; the whole of stop takes 2 s then.
	stopWithin = 1500 * time.Millisecond
)

// usualWatch is how a foreground serve watches its server. An inference costs a tenth of a second of one core on the CPU
// lane. A deadline that is missed three times on end is one and a half minutes: longer than a full batch takes on two cores.
func usualWatch() serving.Watch {
	return serving.Watch{
		Probe: serving.Probe{Reply: 5 * time.Second, Within: 30 * time.Second},
		Every: 10 * time.Second, Again: time.Second, InARow: 3,
	}
}

// watchFor is the watch over a server of dalirun.
func (a *App) watchFor() (serving.Watch, error) {
	w := a.watch
	if w.Every == 0 {
		w = usualWatch()
	}
	p, err := probe(w.Probe.Reply, w.Probe.Within)
	w.Probe = p
	return w, err
}

// probe is the inference that a server of dalirun answers.
func probe(reply, within time.Duration) (serving.Probe, error) {
	picture, err := serving.Picture()
	return serving.Probe{Model: steps.EnsembleModel, Picture: picture, Reply: reply, Within: within}, err
}

// serves says whether tritonserver runs in a container, for others or for its run alone.
func serves(c container.Summary) bool {
	return owner.IsServer(c.Labels) || c.Labels[container.LabelStep] == string(steps.IDServe)
}

// recordOf is what is known of a server beside its container; [owner.ErrNoServer] of one that is not ready yet.
func recordOf(c container.Summary) (owner.ServerFile, error) {
	return owner.ServerOf(c.Labels[container.LabelWorkspace], c.Labels[container.LabelRun])
}

// judge asks a server for an inference. The error is the cause of a ctx that ended.
func judge(ctx context.Context, c container.Summary, within time.Duration) (serving.Health, error) {
	addr, published := c.Ports[triton.PortGRPC]
	switch {
	case !c.Running:
		return serving.Health{State: serving.Ended, Reason: "its container has ended"}, nil
	case !published:
		return serving.Health{State: serving.Silent, Reason: "its gRPC port is not published"}, nil
	}
	return judgeAt(ctx, addr.String(), within)
}

// judgeAt is judge of what answers at a gRPC address.
func judgeAt(ctx context.Context, addr string, within time.Duration) (serving.Health, error) {
	p, err := probe(replyWithin, within)
	if err != nil {
		return serving.Health{}, err
	}
	return p.Judge(ctx, addr)
}

// healthOf is judge with the command that mends what is wrong. state is whose the server is.
func (a *App) healthOf(ctx context.Context, c container.Summary, state owner.State) (serving.Health, error) {
	h, err := judge(ctx, c, statusWithin)
	if err != nil || h.OK() {
		return h, err
	}
	workspace, run := c.Labels[container.LabelWorkspace], c.Labels[container.LabelRun]
	record, err := recordOf(c)
	if errors.Is(err, owner.ErrNoServer) && state == owner.Kept {
		reason := "its run " + run + " has not made it ready yet"
		if !c.Running { // created, or it ended and the run has not said so
			reason = "it does not run, and its run " + run + " has not ended"
		}
		return serving.Health{State: serving.Starting, Reason: reason}, nil
	}
	if user, err := owner.OtherUser(workspace, run); err == nil && user != "" {
		h.Reason += "; it belongs to " + user + ", whose `dalirun ps` says what mends it"
		return h, nil
	}
	if !owner.IsServer(c.Labels) { // of a run that verifies with it, and that is gone
		h.Mend = a.asCalled(serving.Start([]string{"gc"}))
		return h, nil
	}
	start := record.Command
	if len(start) == 0 {
		start = a.usualStart(workspace, c)
		h.MendNote = "nothing says with which flags it was started: this starts one with the usual flags"
		if len(c.Ports) > 0 {
			h.MendNote += ", on its ports"
		}
		if err != nil && !errors.Is(err, owner.ErrNoServer) {
			h.MendNote += " (" + err.Error() + ")"
		}
	}
	h.Mend = a.asCalled(serving.Mend(workspace, start))
	return h, nil
}

// usualStart are the arguments that start a server in the place of one of which only the container is known.
func (a *App) usualStart(workspace string, c container.Summary) []string {
	start := append([]string{"serve", "--detach", "--workspace=" + workspace}, cacheArgument(a.cacheDir())...)
	for _, p := range []struct {
		flag string
		port uint16
	}{{"http-port", triton.PortHTTP}, {"grpc-port", triton.PortGRPC}, {"metrics-port", triton.PortMetrics}} {
		if at, ok := c.Ports[p.port]; ok {
			start = append(start, fmt.Sprintf("--%s=%d", p.flag, at.Port()))
		}
	}
	return start
}

// notJudged is the state of a server of which it could not be found out how it is.
const notJudged serving.State = "unknown"

// orNotJudged is the health of a server, or why there is none.
func orNotJudged(h serving.Health, err error) serving.Health {
	if err != nil {
		return serving.Health{State: notJudged, Reason: err.Error()}
	}
	return h
}

// withHealth adds to an error of an inference what is wrong with the server at a gRPC address, if it is one of dalirun and
// not healthy.
func (a *App) withHealth(ctx context.Context, addr string, failed error) error {
	fault, ok := errors.AsType[*pipeline.Fault](failed)
	if !ok || fault.Kind != pipeline.NotReady || ctx.Err() != nil {
		return failed
	}
	c, state, found := a.serverAt(ctx, addr)
	if !found {
		return failed
	}
	h, err := a.healthOf(ctx, c, state)
	if err != nil || h.OK() || h.State == serving.Starting {
		return failed
	}
	if strings.Contains(fault.Error(), h.Reason) {
		h.Model, h.Reason = "", "" // it is said once
	}
	return pipeline.Faultf(pipeline.NotReady, mends(h), "%w (the server %s is %s)", fault.Err, c.Name, h)
}

// mends is the hint of a server that is not healthy.
func mends(h serving.Health) string {
	if h.Mend == "" {
		return ""
	}
	if h.MendNote != "" {
		return "`" + h.Mend + "` mends it; " + h.MendNote
	}
	return "`" + h.Mend + "` mends it"
}

// serverAt finds the server of dalirun that is published on a gRPC address of this host.
func (a *App) serverAt(ctx context.Context, addr string) (c container.Summary, state owner.State, found bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return c, "", false
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return c, "", false
	}
	runtime, err := a.answering(ctx)
	if err != nil {
		return c, "", false // whoever asks has an error already
	}
	me, err := owner.Here(time.Now())
	if err != nil {
		return c, "", false
	}
	all, err := runtime.List(ctx, owner.Labels())
	if err != nil {
		return c, "", false
	}
	for _, c := range all {
		if at, ok := c.Ports[triton.PortGRPC]; ok && owner.IsServer(c.Labels) && strconv.Itoa(int(at.Port())) == port {
			state, _ := owner.Verdict(c.Labels, me)
			return c, state, true
		}
	}
	return c, "", false
}
