package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/steps"
)

// gpuProbe finds the GPUs that containers can get. None is a [host.ErrNoGPU].
type gpuProbe func(context.Context) (host.GPUs, error)

// nvidiaRuntime is the name that NVIDIA's container toolkit gives its runtime in a container engine.
const nvidiaRuntime = "nvidia"

// probeGPUs asks nvidia-smi. Of a container engine on another host only that engine can say what it has: this host's GPUs are others.
func probeGPUs(info container.Info, gpus string) gpuProbe {
	return func(ctx context.Context) (host.GPUs, error) {
		switch {
		case !info.Remote:
			return host.Probe(ctx, host.Command)
		case len(info.CDIDevices) == 0 && slices.Contains(info.Runtimes, nvidiaRuntime):
			return host.Assumed(gpus)
		default:
			return host.FromCDI(info.CDIDevices)
		}
	}
}

// nameGPUs says which GPUs a run takes: "2 × NVIDIA H100 80GB HBM3, driver 580.159.04".
func nameGPUs(gpus host.GPUs, chosen []host.GPU) string {
	if chosen[0].Name == "" {
		return fmt.Sprintf("%d × GPU of the container engine's host, driver not known from here", len(chosen))
	}
	return fmt.Sprintf("%d × %s, driver %s", len(chosen), chosen[0].Name, gpus.Driver)
}

// device is what an engine depends on. Of a GPU whose model is not known it is where it is: an engine for one is for no other.
func device(info container.Info, gpus host.GPUs, chosen []host.GPU) steps.Device {
	name := chosen[0].Name
	if name == "" {
		name = fmt.Sprintf("GPU %d %s at %s", chosen[0].Index, chosen[0].UUID, info.Endpoint)
	}
	return steps.Device{Name: name, Compute: chosen[0].Compute, Driver: gpus.Driver}
}
