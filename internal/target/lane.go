package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// decideLane takes the requested lane, or else the gpu lane if there is a GPU.
func (x *resolution) decideLane(context.Context) {
	t := &x.target
	if x.request.Accel == string(CPU) {
		t.Lane, t.LaneReason = CPU, "asked for"
		return
	}
	if x.engineErr != nil && x.remote {
		return // nothing is known of the container engine's GPUs
	}
	gpus, err := x.containerGPUs()
	switch {
	case err == nil:
		x.chooseGPUs(gpus)
	case errors.Is(err, ErrSlow) && x.request.Exhaustive:
		x.doubt(CheckGPU, err.Error(), "`sudo nvidia-smi -pm 1` keeps the driver loaded, so that it answers at once")
	case x.request.RequireGPU || x.request.Accel == string(GPU):
		hint := "--accel cpu runs the same without a GPU"
		if noGPU, ok := errors.AsType[*host.NoGPUError](err); ok {
			hint = remedy.NoGPU(noGPU.Reason, noGPU.NotInstalled, noGPU.Hangs) + "; or " + hint
		}
		x.refuse(CheckGPU, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: hint})
	default:
		t.Lane, t.LaneReason = CPU, err.Error()
		noGPU, isNoGPU := errors.AsType[*host.NoGPUError](err)
		if x.remote || isNoGPU && noGPU.NotInstalled {
			return // a host without NVIDIA's driver is not expected to have a GPU
		}
		advice := "look at `nvidia-smi`"
		if isNoGPU {
			advice = remedy.NoGPU(noGPU.Reason, noGPU.NotInstalled, noGPU.Hangs)
		}
		x.doubt(CheckGPU, "the cpu lane is taken: "+t.LaneReason, advice)
	}
}

// containerGPUs returns the GPUs that containers can get. They are this host's, unless the container engine is on
// another host: then only the engine knows them. No GPU is a [host.ErrNoGPU].
func (x *resolution) containerGPUs() (host.GPUs, error) {
	if !x.remote {
		return x.gpus()
	}
	return remoteGPUs(x.info, x.request.GPUs)
}

// remoteGPUs returns the GPUs of a container engine on another host, as far as info describes them.
func remoteGPUs(info container.Info, requested container.GPUs) (host.GPUs, error) {
	if len(info.CDIDevices) == 0 && slices.Contains(info.Runtimes, container.NVIDIARuntime) {
		return host.Assumed(requested)
	}
	return host.FromCDI(info.CDIDevices)
}

// ChosenGPUs returns the GPUs of a target with their present memory, which other programs take and free while images
// are pulled. It returns none for a container engine on another host, which does not tell its GPUs' memory.
func ChosenGPUs(ctx context.Context, p Probes, gpus container.GPUs) ([]host.GPU, error) {
	if p.Runtime.Remote() {
		return nil, nil
	}
	all, err := p.Host.GPUs(ctx)
	if err != nil {
		return nil, err
	}
	return all.Select(gpus)
}

// chooseGPUs takes the GPUs that --gpus names, and decides all that depends on them.
func (x *resolution) chooseGPUs(gpus host.GPUs) {
	t := &x.target
	chosen, err := gpus.Select(x.request.GPUs)
	if err != nil {
		x.refuse(CheckGPU, &pipeline.Fault{
			Kind: pipeline.Environment, Err: fmt.Errorf("%s: %w",
				x.request.Settings.Written("gpus", x.request.GPUs.String()), err),
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
	if !cdi.ByDevice(x.request.GPUs, x.info) { // nothing compares what an image requires with the driver of a CDI device
		t.Fits.CUDA = gpus.CUDA
	}
}

// nameGPUs names the GPUs of a run for people: "2 × NVIDIA H100 80GB HBM3, driver 580.159.04".
func nameGPUs(gpus host.GPUs, chosen []host.GPU) string {
	if chosen[0].Name == "" {
		return fmt.Sprintf("%d × GPU of the container engine's host, driver not known from here", len(chosen))
	}
	return fmt.Sprintf("%d × %s, driver %s", len(chosen), chosen[0].Name, gpus.Driver)
}

// device returns what an engine depends on. GPUs whose model is not known have a location instead.
func device(info container.Info, gpus host.GPUs, chosen []host.GPU) Device {
	d := Device{Name: chosen[0].Name, Compute: chosen[0].Compute, Driver: gpus.Driver}
	if d.Name == "" {
		places := make([]string, len(chosen))
		for i, g := range chosen {
			places[i] = strings.TrimSpace(g.Address() + " " + g.UUID)
		}
		d.Location = fmt.Sprintf("GPU %s at %s", strings.Join(places, ", "), info.Endpoint)
	}
	return d
}

// uuids returns the UUIDs of the chosen GPUs; nil if one is not known.
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
