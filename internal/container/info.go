package container

import "slices"

// What container engines and NVIDIA's container toolkit call themselves.
const (
	PodmanEngine  = "Podman Engine" // Info.Name
	NVIDIARuntime = "nvidia"        // among Info.Runtimes
)

// Podman says whether the runtime is Podman, which speaks Docker's API and differs where that says nothing.
func (i Info) Podman() bool { return i.Name == PodmanEngine }

// ByCDI says whether the runtime is asked for GPUs by the names of CDI devices. Podman, which does not list its own, ignores every other kind of
// request without a word. Another that lists NVIDIA's and has no nvidia runtime knows --gpus only if a hook was on its PATH when it started.
func (i Info) ByCDI() bool {
	return i.Podman() || len(i.CDIDevices) > 0 && !slices.Contains(i.Runtimes, NVIDIARuntime)
}
