package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// decideLane takes the lane that was asked for, or the GPU if there is one.
func (x *resolution) decideLane(context.Context) {
	t := &x.target
	if x.request.Accel == string(CPU) {
		t.Lane, t.LaneReason = CPU, "asked for"
		return
	}
	if x.engineErr != nil && x.remote {
		return // nothing is known of its GPUs
	}
	gpus, err := x.containerGPUs()
	switch {
	case err == nil:
		x.take(gpus)
	case errors.Is(err, ErrSlow) && x.request.Exhaustive:
		x.doubt(CheckGPU, err.Error(), "`sudo nvidia-smi -pm 1` keeps the driver loaded, so that it answers at once")
	case x.request.RequireGPU || x.request.Accel == string(GPU):
		hint := "--accel cpu runs the same without a GPU"
		if none, ok := errors.AsType[*host.NoGPUError](err); ok {
			hint = remedy.NoGPU(none.Reason, none.NotInstalled, none.Hangs) + "; or " + hint
		}
		x.refuse(CheckGPU, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: hint})
	default:
		t.Lane, t.LaneReason = CPU, err.Error()
		none, isNone := errors.AsType[*host.NoGPUError](err)
		if x.remote || isNone && none.NotInstalled {
			return // no GPU was meant to be there
		}
		advice := "look at `nvidia-smi`"
		if isNone {
			advice = remedy.NoGPU(none.Reason, none.NotInstalled, none.Hangs)
		}
		x.doubt(CheckGPU, "the cpu lane is taken: "+t.LaneReason, advice)
	}
}

// containerGPUs are those that containers can get. Of a container engine on another host only that engine can say what
// it has: this host's GPUs are others. None is a [host.ErrNoGPU].
func (x *resolution) containerGPUs() (host.GPUs, error) {
	if !x.remote {
		return x.gpus()
	}
	return remoteGPUs(x.info, x.request.GPUs)
}

// remoteGPUs are those of a container engine on another host, as far as it tells.
func remoteGPUs(info container.Info, asked container.GPUs) (host.GPUs, error) {
	if len(info.CDIDevices) == 0 && slices.Contains(info.Runtimes, container.NVIDIARuntime) {
		return host.Assumed(asked)
	}
	return host.FromCDI(info.CDIDevices)
}

// ChosenGPUs asks anew for the GPUs of a target: others take and free their memory while images arrive. Those of a
// container engine on another host are not known: none.
func ChosenGPUs(ctx context.Context, p Probes, gpus container.GPUs) ([]host.GPU, error) {
	if p.Runtime.Remote() {
		return nil, nil // how much they have free it does not tell
	}
	all, err := p.Host.GPUs(ctx)
	if err != nil {
		return nil, err
	}
	return all.Select(gpus)
}

// take takes the GPUs that --gpus names.
func (x *resolution) take(gpus host.GPUs) {
	t := &x.target
	chosen, err := gpus.Select(x.request.GPUs)
	if err != nil {
		x.refuse(CheckGPU, &pipeline.Fault{
			Kind: pipeline.Environment, Err: fmt.Errorf("%s: %w", x.request.Settings.Written("gpus", x.request.GPUs.String()), err),
			Hint: "`nvidia-smi -L` lists what is there; name one, as in --gpus device=0",
		})
		return
	}
	first := chosen[0]
	t.Lane, t.LaneReason, t.Chosen = GPU, nameGPUs(gpus, chosen), chosen
	t.GPUs = asListed(x.info, x.request.GPUs, chosen)
	t.GPUUUIDs = uuids(chosen)
	t.Device = device(x.info, gpus, chosen)
	t.NoNVML = !x.remote && host.WSL(x.probes.Host.Kernel())
	t.Fits = release.Host{Driver: gpus.Driver, Compute: []string{first.Compute}, DataCenter: first.DataCenter()}
	if !x.info.ByCDI() { // nothing compares what an image requires with the driver of a CDI device
		t.Fits.CUDA = gpus.CUDA
	}
}

// nameGPUs says which GPUs a run takes: "2 × NVIDIA H100 80GB HBM3, driver 580.159.04".
func nameGPUs(gpus host.GPUs, chosen []host.GPU) string {
	if chosen[0].Name == "" {
		return fmt.Sprintf("%d × GPU of the container engine's host, driver not known from here", len(chosen))
	}
	return fmt.Sprintf("%d × %s, driver %s", len(chosen), chosen[0].Name, gpus.Driver)
}

// device is what an engine depends on. GPUs whose model is not known are called by where they are.
func device(info container.Info, gpus host.GPUs, chosen []host.GPU) Device {
	d := Device{Name: chosen[0].Name, Compute: chosen[0].Compute, Driver: gpus.Driver}
	if d.Name == "" {
		where := make([]string, len(chosen))
		for i, g := range chosen {
			where[i] = strings.TrimSpace(g.Address() + " " + g.UUID)
		}
		d.Where = fmt.Sprintf("GPU %s at %s", strings.Join(where, ", "), info.Endpoint)
	}
	return d
}

// uuids are those of the chosen GPUs; nil if one is not known.
func uuids(chosen []host.GPU) []string {
	var all []string
	for _, g := range chosen {
		if g.UUID == "" {
			return nil
		}
		all = append(all, g.UUID)
	}
	return all
}
