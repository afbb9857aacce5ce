package host

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

// FromCDI returns the GPUs that a container engine on another host offers, by the names of its CDI devices:
// nvidia.com/gpu=0, nvidia.com/gpu=0:1 for an instance, nvidia.com/gpu=GPU-…. It says which there are and nothing about
// them: names, memory and driver are not known. Where there are indexes they are counted, and the UUIDs are further
// names of the same devices. None: an [ErrNoGPU].
func FromCDI(devices []string) (GPUs, error) {
	var names []string
	for _, device := range devices {
		if name, ok := cdi.Name(device); ok {
			names = append(names, name)
		}
	}
	return fromNames(names)
}

func fromNames(names []string) (GPUs, error) {
	var gpus GPUs
	for _, name := range names {
		first, second, isInstance := strings.Cut(name, ":")
		index, err := strconv.Atoi(first)
		switch {
		case err != nil && name != "all":
			gpus.Also = append(gpus.Also, byUUID(name))
		case err != nil || index < 0:
		case isInstance:
			gpus.addInstance(index, second)
		case gpus.index(index) < 0:
			gpus.Devices = append(gpus.Devices, GPU{Index: index})
		}
	}
	if len(gpus.Devices) == 0 {
		gpus.Devices, gpus.Also = gpus.Also, nil
		for i := range gpus.Devices {
			gpus.Devices[i].Index = i
		}
	}
	if len(gpus.Devices) == 0 {
		return GPUs{}, &NoGPUError{Reason: "the container engine, which is on another host, lists no CDI device of " +
			"kind " + cdi.Kind}
	}
	slices.SortFunc(gpus.Devices, func(a, b GPU) int { return a.Index - b.Index })
	return gpus, nil
}

func byUUID(name string) GPU {
	gpu := GPU{Index: -1, UUID: name}
	if strings.HasPrefix(name, "MIG-") {
		gpu.Part = name
	}
	return gpu
}

// CDIName returns the CDI device by which a container engine that lists these offers a chosen GPU or instance: by
// index, else by UUID. Empty if it lists neither.
func CDIName(listed []string, gpu GPU) string {
	for _, name := range []string{gpu.Address(), gpu.UUID} {
		for _, device := range listed {
			if offered, ok := cdi.Name(device); ok && offered == name {
				return device
			}
		}
	}
	return ""
}

func (g *GPUs) addInstance(gpu int, number string) {
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 {
		return
	}
	i := g.index(gpu)
	if i < 0 {
		i, g.Devices = len(g.Devices), append(g.Devices, GPU{Index: gpu, MIG: true})
	}
	g.Devices[i].MIG = true
	g.Devices[i].Instances = append(g.Devices[i].Instances, Instance{Index: index})
}

// index returns the position of the device with nvidia-smi's index number; -1 if there is none.
func (g *GPUs) index(number int) int {
	return slices.IndexFunc(g.Devices, func(d GPU) bool { return d.Index == number })
}

// Assumed returns the GPUs that gpus names, without knowing whether they are there: for a container engine on
// another host that offers GPUs and does not list them. "all" is one at least.
func Assumed(gpus container.GPUs) (GPUs, error) {
	if len(gpus.Devices) > 0 {
		return fromNames(gpus.Devices)
	}
	return GPUs{Devices: make([]GPU, max(gpus.Count, 1))}, nil
}
