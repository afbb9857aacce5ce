package target

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// decideGPUAccess refuses GPUs that no program may use, and a container engine that cannot give GPUs to containers:
// else a run would fail after 20 GB of images were pulled. Whether a container really gets its GPUs is proven inside
// it, by the step serve.
func (x *resolution) decideGPUAccess(context.Context) {
	t := &x.target
	if t.Lane != GPU {
		return
	}
	x.decideComputeMode()
	if x.engineErr != nil {
		return // the container engine's runtimes and devices are not known
	}
	devices, missing := cdi.Request(t.GPUs, x.info)
	hook := ""
	if !x.remote && !x.info.Podman() {
		hook = x.probes.Host.ToolkitHook()
	}
	switch {
	case slices.Contains(x.info.Runtimes, container.NVIDIARuntime) && !x.info.Podman():
		t.GPUAccess = "the container engine has the nvidia runtime"
	case len(x.info.CDIDevices) > 0 && len(devices) > 0:
		t.GPUAccess = "the container engine lists " + strings.Join(x.info.CDIDevices, ", ")
	case x.info.Podman() && len(x.info.CDIDevices) == 0:
		if spec := x.cdiSpec(); spec != "" {
			t.GPUAccess = spec + " has NVIDIA's devices"
			return
		}
		x.doubt(CheckContainerGPU,
			"Podman does not list its devices, and no CDI specification in /etc/cdi or /var/run/cdi has NVIDIA's",
			remedy.PodmanCDI+"; or "+remedy.UseCPU)
	case hook != "":
		t.GPUAccess = hook + " is there, which the container engine runs for --gpus if it was started after it was installed"
	case missing != "":
		x.refuse(CheckContainerGPU, pipeline.Faultf(pipeline.Environment, remedy.RenewCDI,
			"the container engine lists %s and not %s", strings.Join(x.info.CDIDevices, ", "), missing))
	case len(x.info.CDIDevices) > 0: // which are not asked for by another driver
		x.doubt(CheckContainerGPU, fmt.Sprintf("%s: the container engine lists %s, and has no nvidia runtime",
			x.request.Settings.Written("gpus", x.request.GPUs.String()), strings.Join(x.info.CDIDevices, ", ")),
			"leave out driver="+t.GPUs.Driver+", and these are taken")
	default:
		x.refuse(CheckContainerGPU, pipeline.Faultf(pipeline.Environment, remedy.InstallToolkit+"; or "+remedy.UseCPU,
			"the container engine offers no GPU: it has no nvidia runtime, lists no CDI device of kind %s, and there is no %s",
			cdi.Kind, host.ToolkitHook))
	}
}

// decideComputeMode refuses GPUs that no program may use, and doubts those that one program alone may use.
func (x *resolution) decideComputeMode() {
	in := func(mode string) (index int, mend string, found bool) {
		i := slices.IndexFunc(x.target.Chosen, func(g host.GPU) bool { return g.ComputeMode == mode })
		if i < 0 {
			return 0, "", false
		}
		index = x.target.Chosen[i].Index
		return index, fmt.Sprintf("`sudo nvidia-smi -i %d -c DEFAULT`", index), true
	}
	if index, mend, found := in("Prohibited"); found {
		x.refuse(CheckGPU, pipeline.Faultf(pipeline.Environment, mend,
			"GPU %d is in compute mode Prohibited: no program may use it", index))
	} else if index, mend, found := in("Exclusive_Process"); found {
		x.doubt(CheckGPU, fmt.Sprintf("GPU %d is in compute mode Exclusive_Process: whatever else uses it keeps a run out",
			index), mend)
	}
}

// cdiSpec returns the CDI specification that names NVIDIA's devices; empty for a container engine on another host,
// which reads its own.
func (x *resolution) cdiSpec() string {
	if x.remote {
		return ""
	}
	return x.probes.Host.CDISpec()
}

// asListed returns gpus with the container engine's names for the chosen GPUs: a CDI specification may list indexes
// alone, or UUIDs alone, and does not know the first letters of a UUID. All GPUs stay all, and a count stays a count
// where the container engine takes one.
func asListed(info container.Info, gpus container.GPUs, chosen []host.GPU) container.GPUs {
	if gpus.Count == container.AllGPUs || gpus.Count > 0 && !cdi.ByDevice(gpus, info) {
		return gpus
	}
	var names []string
	if cdi.ByDevice(gpus, info) {
		for _, g := range chosen {
			name := g.Address() // nvidia-ctk's name, for an engine that does not list its devices
			if listed := host.CDIName(info.CDIDevices, g); listed != "" {
				name, _ = cdi.Name(listed)
			}
			names = append(names, name)
		}
	} else {
		for _, name := range gpus.Devices {
			if c := slices.IndexFunc(chosen, func(g host.GPU) bool { return strings.HasPrefix(g.UUID, name) }); c >= 0 {
				name = chosen[c].UUID
			}
			names = append(names, name)
		}
	}
	gpus.Count, gpus.Devices = 0, names
	return gpus
}
