package container

import (
	"slices"
	"strconv"
	"strings"
)

// What container engines and NVIDIA's container toolkit call themselves.
const (
	PodmanEngine  = "Podman Engine"  // Info.Name
	NVIDIARuntime = "nvidia"         // among Info.Runtimes
	CDIKind       = "nvidia.com/gpu" // before the "=" of Info.CDIDevices
)

// Podman says whether the runtime is Podman, which speaks Docker's API and differs where that says nothing.
func (i Info) Podman() bool { return i.Name == PodmanEngine }

// ByCDI says whether the runtime is asked for GPUs by the names of CDI devices. Podman, which does not list its own, ignores every other kind of
// request without a word. Another that lists NVIDIA's and has no nvidia runtime knows --gpus only if a hook was on its PATH when it started.
func (i Info) ByCDI() bool {
	return i.Podman() || len(i.CDIDevices) > 0 && !slices.Contains(i.Runtimes, NVIDIARuntime)
}

// CDIRequest names the CDI devices of gpus: all of them, the first of a count by index, or those that are named, with or without [CDIKind]. missing is the first that the runtime does not list; empty if it lists them all, or lists nothing at all.
func (i Info) CDIRequest(gpus GPUs) (ids []string, missing string) {
	names := slices.Clone(gpus.Devices)
	if gpus.Count == AllGPUs {
		names = []string{"all"}
	}
	for index := range max(gpus.Count, 0) {
		names = append(names, strconv.Itoa(index))
	}
	for _, name := range names {
		id := CDIKind + "=" + strings.TrimPrefix(name, CDIKind+"=")
		ids = append(ids, id)
		if missing == "" && len(i.CDIDevices) > 0 && !slices.Contains(i.CDIDevices, id) {
			missing = id
		}
	}
	return ids, missing
}
