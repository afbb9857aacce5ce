package container

// The names of Podman and of the NVIDIA Container Toolkit's runtime.
const (
	PodmanEngine  = "Podman Engine" // Info.Name
	NVIDIARuntime = "nvidia"        // among Info.Runtimes
)

// Podman reports whether the runtime is Podman, which has Docker's API and behaves differently where that does not
// specify it.
func (i Info) Podman() bool { return i.Name == PodmanEngine }
