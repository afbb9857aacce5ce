package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// thisHost is what is asked of this host about its GPUs and ports; tests have others.
type thisHost struct {
	smi      func(context.Context) (host.GPUs, error) // nvidia-smi; none is a [host.ErrNoGPU]
	lookPath func(program string) (string, error)
	root     fs.FS // of the file system
	// containers are those of dalirun that may have a port of this host. Nil where no container engine answers.
	containers lister
}

func (a *App) here() thisHost {
	root := a.root
	if root == nil {
		root = os.DirFS("/")
	}
	return thisHost{
		smi:      func(ctx context.Context) (host.GPUs, error) { return host.Probe(ctx, host.Command) },
		lookPath: exec.LookPath, root: root,
	}
}

// gpus finds those that containers can get. Of a container engine on another host only that engine can say what it has: this host's GPUs
// are others. None is a [host.ErrNoGPU].
func (h thisHost) gpus(ctx context.Context, info container.Info, asked container.GPUs) (host.GPUs, error) {
	switch {
	case !info.Remote:
		return h.smi(ctx)
	case len(info.CDIDevices) == 0 && slices.Contains(info.Runtimes, container.NVIDIARuntime):
		return host.Assumed(asked)
	default:
		return host.FromCDI(info.CDIDevices)
	}
}

// nameGPUs says which GPUs a run takes: "2 × NVIDIA H100 80GB HBM3, driver 580.159.04".
func nameGPUs(gpus host.GPUs, chosen []host.GPU) string {
	if chosen[0].Name == "" {
		return fmt.Sprintf("%d × GPU of the container engine's host, driver not known from here", len(chosen))
	}
	return fmt.Sprintf("%d × %s, driver %s", len(chosen), chosen[0].Name, gpus.Driver)
}

// device is what an engine depends on. GPUs whose model is not known are called by where they are.
func device(info container.Info, gpus host.GPUs, chosen []host.GPU) steps.Device {
	d := steps.Device{Name: chosen[0].Name, Compute: chosen[0].Compute, Driver: gpus.Driver}
	if d.Name == "" {
		where := make([]string, len(chosen))
		for i, g := range chosen {
			where[i] = strings.TrimSpace(g.Address() + " " + g.UUID)
		}
		d.Where = fmt.Sprintf("GPU %s at %s", strings.Join(where, ", "), info.Endpoint)
	}
	return d
}

// uuids are those of the chosen GPUs; nil if one is not known.
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

// asListed is gpus with the names of the chosen GPUs as the container engine has them: a CDI specification may list indexes alone, or UUIDs
// alone, and the first letters of a UUID name nothing there. All stay all, and so does a count where the container engine counts.
func asListed(info container.Info, gpus container.GPUs, chosen []host.GPU) container.GPUs {
	if gpus.Count == container.AllGPUs || gpus.Count > 0 && !info.ByCDI() {
		return gpus
	}
	var names []string
	if info.ByCDI() {
		for _, g := range chosen {
			name := g.Address() // what nvidia-ctk writes, for an engine that does not list what it has
			if listed := host.CDIName(info.CDIDevices, g); listed != "" {
				name = strings.TrimPrefix(listed, container.CDIKind+"=")
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

// prohibited refuses GPUs that no program may use.
func prohibited(chosen []host.GPU) error {
	for _, g := range chosen {
		if g.ComputeMode == "Prohibited" {
			return pipeline.Faultf(pipeline.Environment, fmt.Sprintf("`sudo nvidia-smi -i %d -c DEFAULT`", g.Index),
				"GPU %d is in compute mode Prohibited: no program may use it", g.Index)
		}
	}
	return nil
}

// toolkitHook is what a container engine runs for --gpus where it has neither CDI devices nor an nvidia runtime.
const toolkitHook = "nvidia-container-runtime-hook"

const (
	installToolkit = "`sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && " +
		"sudo systemctl restart docker` (https://docs.nvidia.com/datacenter/cloud-native/container-toolkit says where the package comes from), or --accel cpu"
	renewCDI  = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, then restart the container engine"
	podmanCDI = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, or --accel cpu"
)

// access is how the container engine gives GPUs to containers.
type access struct {
	saw   string
	doubt bool // the container engine does not say
}

// access says how the container engine gives gpus to containers, or refuses: without a way, the first container would
// fail, after 20 GB of images were pulled. Only a container proves that it gets them; serve looks into its own.
func (h thisHost) access(info container.Info, gpus container.GPUs) (access, error) {
	_, missing := info.CDIRequest(gpus)
	hook := h.hook(info)
	switch {
	case slices.Contains(info.Runtimes, container.NVIDIARuntime) && !info.Podman():
		return access{saw: "the container engine has the nvidia runtime"}, nil
	case len(info.CDIDevices) > 0 && missing == "":
		return access{saw: "the container engine lists " + strings.Join(info.CDIDevices, ", ")}, nil
	case info.Podman() && len(info.CDIDevices) == 0:
		if spec := h.cdiSpec(); spec != "" && !info.Remote {
			return access{saw: spec + " has NVIDIA's devices"}, nil
		}
		return access{doubt: true, saw: "Podman does not list its devices, and no CDI specification in /etc/cdi or /var/run/cdi has NVIDIA's"}, nil
	case hook != "":
		return access{saw: hook + " is there, which the container engine runs for --gpus if it was started after it was installed"}, nil
	case missing != "":
		return access{}, pipeline.Faultf(pipeline.Environment, renewCDI,
			"the container engine lists %s and not %s", strings.Join(info.CDIDevices, ", "), missing)
	default:
		return access{}, pipeline.Faultf(pipeline.Environment, installToolkit,
			"the container engine offers no GPU: it has no nvidia runtime, lists no CDI device of kind %s, and there is no %s", container.CDIKind, toolkitHook)
	}
}

// hook is where the container engine finds the toolkit's hook; empty if nowhere. Its PATH is not known: it is ours where somebody started it
// by hand, and systemd's for a service.
func (h thisHost) hook(info container.Info) string {
	if info.Remote || info.Podman() {
		return ""
	}
	if found, err := h.lookPath(toolkitHook); err == nil {
		return found
	}
	for _, dir := range []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"} {
		name := path.Join(dir, toolkitHook)
		if about, err := fs.Stat(h.root, name); err == nil && about.Mode().IsRegular() && about.Mode()&0o111 != 0 {
			return "/" + name
		}
	}
	return ""
}

// cdiSpec is the file that names NVIDIA's devices for those who read the specifications themselves; empty if there is none.
func (h thisHost) cdiSpec() string {
	for _, pattern := range []string{"etc/cdi/*", "var/run/cdi/*"} {
		files, _ := fs.Glob(h.root, pattern) // the patterns are well formed
		for _, name := range files {
			if data, err := fs.ReadFile(h.root, name); err == nil && strings.Contains(string(data), container.CDIKind) {
				return "/" + name
			}
		}
	}
	return ""
}
