package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// laned is a run that has its lane, its GPUs and its image source. No image was looked for yet.
type laned struct {
	resolved

	host    release.Host // what decides which release fits
	chosen  []host.GPU   // none on the cpu lane
	access  access       // how containers get them
	noGPU   error        // why the cpu lane is taken though nobody asked for it
	driver  bool         // with noGPU: there is a driver, so a GPU was meant to be there
	err     error        // why there is no lane, and so nothing of the above
	refused []obstacle   // why a run would not begin; that of err is among them
}

// The checks of doctor that show why a run would not begin.
const (
	checkEngine       = "container engine"
	checkGPU          = "gpu"
	checkContainerGPU = "container gpu"
	checkImages       = "images"
	checkPorts        = "ports"
)

// obstacle is why a run would not begin. check is the one of doctor that shows it.
type obstacle struct {
	check string
	err   error
}

func (l *laned) refuse(check string, err error) {
	if err != nil {
		l.refused = append(l.refused, obstacle{check, err})
	}
}

// settleLane takes lane, GPUs and image source, and finds whatever refuses a run before any image is looked for. A run ends with the first
// refusal, and doctor shows all of them. The error is that of ctx.
func (a *App) settleLane(ctx context.Context, w *wishes, info container.Info, on thisHost) (laned, error) {
	l := laned{resolved: a.asked(w, info)}
	if l.unserved = unserved(info); w.serves { // first: no other flag mends it
		l.refuse(checkEngine, l.unserved)
	}
	l.err = l.take(ctx, w, info, on)
	if ctx.Err() != nil {
		return l, context.Cause(ctx)
	}
	l.refuse(checkGPU, l.err)
	if l.err == nil {
		l.Images = imageSource(w, l.Lane)
		l.refuse(checkImages, l.checkSource(w))
	}
	if l.Lane == steps.GPU {
		l.refuse(checkGPU, prohibited(l.chosen))
		var err error
		l.access, err = on.access(info, l.GPUs)
		l.refuse(checkContainerGPU, err)
		if l.access.doubt {
			l.Doubts = append(l.Doubts, l.access.saw)
		}
	}
	taken, _ := takenPorts(ctx, info, l.HTTP, l.GRPC, l.Metrics) // what cannot be tried the container engine, which has other rights, will say
	nameHolders(ctx, on.containers, taken)
	for _, p := range taken {
		l.refuse(checkPorts, p.refusal())
	}
	return l, nil
}

// unserved says why nothing can be served from here by this container engine; nil if it can.
func unserved(info container.Info) error {
	if !info.Remote {
		return nil
	}
	return pipeline.Faultf(pipeline.Environment, "run dalirun on that host; `dalirun setup` works from here",
		"the container engine at %s is on another host, whose loopback address the server would be published on", info.Endpoint)
}

// take takes the lane that was asked for, or the GPU if there is one.
func (l *laned) take(ctx context.Context, w *wishes, info container.Info, on thisHost) error {
	if w.accel.value == string(steps.CPU) {
		l.Lane, l.LaneReason = steps.CPU, "asked for"
		return nil
	}
	required := w.requireGPU || w.accel.value == string(steps.GPU)
	gpus, err := on.gpus(ctx, info, w.gpus.value)
	if err != nil {
		if required {
			fault := &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: "--accel cpu runs the same without a GPU"}
			if none, ok := errors.AsType[*host.NoGPUError](err); ok {
				fault.Hint = gpuRemedy(none) + "; or " + fault.Hint
			}
			return fault
		}
		l.Lane, l.LaneReason, l.noGPU = steps.CPU, err.Error(), err
		if l.driver = !info.Remote && !notInstalled(err); l.driver {
			l.Doubts = append(l.Doubts, "the cpu lane is taken: "+l.LaneReason)
		}
		return nil
	}
	l.chosen, err = gpus.Select(w.gpus.value)
	if err != nil {
		return &pipeline.Fault{
			Kind: pipeline.Environment, Err: fmt.Errorf("%s: %w", w.written("gpus", w.gpus.String()), err), Hint: "`nvidia-smi -L` lists what is there; name one, as in --gpus device=0",
		}
	}
	l.Lane, l.LaneReason = steps.GPU, nameGPUs(gpus, l.chosen)
	l.Device, l.GPUUUIDs = device(info, gpus, l.chosen), uuids(l.chosen)
	l.GPUs = asListed(info, w.gpus.value, l.chosen)
	l.host = release.Host{Driver: gpus.Driver, Compute: []string{l.chosen[0].Compute}, DataCenter: l.chosen[0].DataCenter()}
	if !info.ByCDI() { // nothing compares what an image requires with the driver of a CDI device
		l.host.CUDA = gpus.CUDA
	}
	return nil
}

// checkSource refuses images that the lane does not have, and flags that must not be dropped with them.
func (l *laned) checkSource(w *wishes) error {
	if l.Images == steps.Local && l.Lane == steps.GPU {
		return usagef("use --images ngc, or --accel cpu", "%s is not offered on the gpu lane, which this host has", w.written("images", w.images.value))
	}
	_, err := w.situation(l.Lane, l.Images).unused()
	return err
}

// pickRelease takes the release that was asked for, if this host can run it, or the newest that it can. The doubts are what is not known of it.
func pickRelease(asked string, lane steps.Lane, h release.Host) (picked release.Release, doubts []string, err error) {
	if asked == "" {
		newest, reasons := release.Newest(h)
		if newest.Tag == "" {
			return newest, nil, pipeline.Faultf(pipeline.Environment, "update the NVIDIA driver, or use --accel cpu",
				"no release runs on this host: %s", reasons[len(reasons)-1].Text)
		}
		return newest, nil, nil
	}
	picked, err = release.Find(asked)
	if err != nil {
		return picked, nil, usagef("", "--release: %w", err)
	}
	if lane == steps.CPU {
		return picked, nil, nil // no TensorRT, no driver
	}
	for _, reason := range picked.Check(h) {
		if reason.Kind.IsDoubt() {
			doubts = append(doubts, reason.Text)
			continue
		}
		hint := "use --accel cpu"
		if newest, _ := release.Newest(h); newest.Tag != "" {
			hint = "--release " + newest.Tag + " runs here"
		}
		if reason.Kind == release.DriverTooOld {
			hint += "; or update the NVIDIA driver"
		}
		return picked, nil, pipeline.Faultf(pipeline.Environment, hint, "release %s: %s", picked.Tag, reason.Text)
	}
	return picked, doubts, nil
}
