package target

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
)

// Probes are whom [Resolve] asks. All fields are required; all methods may be called at the same time.
type Probes struct {
	Host     HostProbe
	Runtime  RuntimeProbe
	Registry RegistryProbe
	Cache    CacheProbe
	Weights  WeightsProbe
	Clock    func() time.Time
}

// HostProbe asks this host.
type HostProbe interface {
	// GPUs are those of this host. None is a [host.NoGPUError]; an answer that took too long is an ErrSlow.
	GPUs(ctx context.Context) (host.GPUs, error)
	// Kernel is the text of /proc/version; empty where there is none.
	Kernel() string
	// ToolkitHook is the path of the NVIDIA Container Toolkit's hook, which a container engine runs for --gpus where it
	// has neither CDI devices nor an nvidia runtime; empty if there is none.
	ToolkitHook() string
	// CDISpec is the file that names NVIDIA's devices for those who read such files themselves; empty if there is none.
	CDISpec() string
	// PortFree says whether a TCP port of an address is free. An error: it cannot be tried.
	PortFree(ctx context.Context, at netip.AddrPort) (bool, error)
	// PortUser is who has a port: "nginx (pid 123)"; empty if it is not known.
	PortUser(port uint16) string
	// DiskFree is how many bytes are free where a folder is; [fs.ErrNotExist] if there is none of that name.
	DiskFree(ctx context.Context, folder string) (uint64, error)
}

// RuntimeProbe asks what runs containers.
type RuntimeProbe interface {
	// Remote says whether it is on another host, whose GPUs, ports and disks are not this one's. It is known without asking.
	Remote() bool
	Info(ctx context.Context) (container.Info, error)
	Resolve(ctx context.Context, ref string) (container.Image, error)
	List(ctx context.Context, labels container.Labels) ([]container.Summary, error)
}

// RegistryProbe asks the registries of images, with the credentials that a pull would have.
type RegistryProbe interface {
	Lookup(ctx context.Context, ref, arch string) (registry.Image, error)
}

// CacheProbe asks what earlier runs left.
type CacheProbe interface {
	// RememberedImage is what identifies an image that was here, and its environment.
	RememberedImage(ref string) (id string, env map[string]string, ok bool)
	// Unreached is when the host of the pretrained weights gave no answer; zero if it is not known.
	Unreached() time.Time
	// NoteUnreached remembers that.
	NoteUnreached(at time.Time) error
}

// WeightsProbe asks for the pretrained weights.
type WeightsProbe interface {
	// Stored says whether they are in the cache.
	Stored(ctx context.Context) bool
	// Reachable is nil if they can be fetched.
	Reachable(ctx context.Context) error
}

// ErrSlow is the cause of an answer that a run would have waited for, and whoever asked did not.
var ErrSlow = errors.New("a run waits longer")
