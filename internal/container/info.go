package container

import "slices"

// The names of Podman and of the NVIDIA Container Toolkit's runtime.
const (
	PodmanEngine  = "Podman Engine" // Info.Name
	NVIDIARuntime = "nvidia"        // among Info.Runtimes
)

// Podman reports whether the runtime is Podman, which has Docker's API and behaves differently where that does not
// specify it.
func (i Info) Podman() bool { return i.Name == PodmanEngine }

// ByCDI reports whether to request GPUs from the runtime by the names of CDI devices. Podman, which does not list its
// devices, ignores every other kind of request without an error. Another runtime that lists NVIDIA's devices and has no
// nvidia runtime supports --gpus only if a hook was on its PATH when it started.
func (i Info) ByCDI() bool {
	return i.Podman() || len(i.CDIDevices) > 0 && !slices.Contains(i.Runtimes, NVIDIARuntime)
}
