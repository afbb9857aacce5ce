package target

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
)

// Probes answer the questions of [Resolve]. All fields are required. Methods may be called concurrently.
type Probes struct {
	Host     HostProbe
	Runtime  RuntimeProbe
	Registry RegistryProbe
	Cache    CacheProbe
	Weights  WeightsProbe
	Program  ProgramProbe
	Clock    func() time.Time
}

// HostProbe answers questions about this host.
type HostProbe interface {
	// GPUs returns the GPUs of this host. No GPU is a [host.NoGPUError], and an answer that took too long an [ErrSlow].
	GPUs(ctx context.Context) (host.GPUs, error)
	// Kernel returns the text of /proc/version; empty where there is none.
	Kernel() string
	// ToolkitHook returns the path of the NVIDIA Container Toolkit's hook, which a container engine runs for --gpus if
	// it has neither CDI devices nor an nvidia runtime; empty if there is none.
	ToolkitHook() string
	// CDISpec returns the CDI specification that names NVIDIA's devices, which Podman reads itself; empty if there is
	// none.
	CDISpec() string
	// PortFree reports whether a TCP port of an address is free. It is an error if the port cannot be tried.
	PortFree(ctx context.Context, addr netip.AddrPort) (bool, error)
	// PortUser returns the program that uses a TCP port of an address, as in "nginx (pid 123)"; empty if it is not known.
	PortUser(addr netip.AddrPort) string
	// DiskFree returns how many bytes are free on the disk of a folder; [fs.ErrNotExist] if there is no such folder.
	DiskFree(ctx context.Context, folder string) (uint64, error)
}

// RuntimeProbe answers questions about the container runtime.
type RuntimeProbe interface {
	// Remote reports whether the runtime is on another host, with GPUs, ports and disks of its own. It sends no
	// request.
	Remote() bool
	Info(ctx context.Context) (container.Info, error)
	Resolve(ctx context.Context, ref string) (container.Image, error)
	List(ctx context.Context, labels container.Labels) ([]container.Summary, error)
}

// RegistryProbe looks images up in their registries, with the credentials that a pull would have.
type RegistryProbe interface {
	Lookup(ctx context.Context, ref, arch string) (registry.Image, error)
}

// CacheProbe answers questions about what earlier runs left in the cache.
type CacheProbe interface {
	// RememberedImage returns the identity and the environment of an image that was here.
	RememberedImage(ref string) (id string, env map[string]string, ok bool)
	// Unreached returns when the host of the pretrained weights last gave no answer; zero if it is not known.
	Unreached() time.Time
	// NoteUnreached remembers that the host of the pretrained weights gave no answer at a time.
	NoteUnreached(since time.Time) error
}

// WeightsProbe answers questions about the pretrained weights.
type WeightsProbe interface {
	// Stored reports whether the weights are in the cache.
	Stored(ctx context.Context, of Remote) bool
	// Reachable returns nil if the weights can be downloaded.
	Reachable(ctx context.Context, of Remote) error
	// FileSum returns the SHA-256 of a file of weights: sha256:…
	FileSum(ctx context.Context, path string) (string, error)
}

// ProgramProbe answers questions about this dalirun. It is asked only where there is a lock.
type ProgramProbe interface {
	// Carried returns the hashes of the programs and labels that dalirun carries. With a base image, it also returns the
	// builds of the local images on it, with the packages of those that are here and were looked at; arch is the
	// container engine's architecture. Other fields are zero.
	Carried(ctx context.Context, model recipe.Recipe, base, arch string) (lock.Lock, error)
}

// ErrSlow is the error for an answer that the caller, unlike a run, did not wait for.
var ErrSlow = errors.New("a run waits longer")
