package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/steps"
)

const (
	// toolkitHook is what a container engine runs for --gpus where it has neither CDI devices nor an nvidia runtime.
	toolkitHook = "nvidia-container-runtime-hook"
	// cdiKind begins the names of NVIDIA's CDI devices.
	cdiKind = "nvidia.com/gpu"

	installToolkit = "`sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && " +
		"sudo systemctl restart docker` (docs/gpu.md says where the package comes from), or --accel cpu"
	renewCDI = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, then restart the container engine"
)

// gpu says which GPUs a run would take.
func (d *diagnosis) gpu(context.Context) finding {
	l, err := d.lane()
	none, isNone := errors.AsType[*host.NoGPUError](err)
	switch {
	case isNone:
		return finding{Status: statusFail, Saw: err.Error(), Remedy: gpuRemedy(none) + "; or --accel cpu"}
	case err != nil:
		return failed(err, "")
	case l.Lane == steps.CPU:
		f := finding{Status: statusOK, Saw: "the cpu lane is taken: " + l.LaneReason}
		if _, err := d.smi(); d.wishes.accel.value != string(steps.CPU) && errors.As(err, &none) && !notInstalled(none) {
			f.Status, f.Remedy = statusWarn, gpuRemedy(none) // there is a driver, so a GPU was meant to be there
		}
		return f
	}
	for _, g := range l.chosen {
		if g.ComputeMode == "Prohibited" {
			return finding{
				Status: statusFail, Saw: fmt.Sprintf("GPU %d is in compute mode Prohibited: no program may use it", g.Index),
				Remedy: fmt.Sprintf("`sudo nvidia-smi -i %d -c DEFAULT`", g.Index),
			}
		}
	}
	f := finding{Status: statusOK, Saw: l.LaneReason}
	if compute := l.chosen[0].Compute; compute != "" {
		f.Saw += ", compute capability " + compute
	}
	if i := slices.IndexFunc(l.chosen, func(g host.GPU) bool { return g.ComputeMode == "Exclusive_Process" }); i >= 0 {
		f.Status = statusWarn
		f.Saw += fmt.Sprintf("; GPU %d is in compute mode Exclusive_Process: whatever else uses it keeps a run out", l.chosen[i].Index)
		f.Remedy = fmt.Sprintf("`sudo nvidia-smi -i %d -c DEFAULT`", l.chosen[i].Index)
	}
	return f
}

func notInstalled(none *host.NoGPUError) bool {
	return errors.Is(none, exec.ErrNotFound) || errors.Is(none, fs.ErrNotExist)
}

// gpuRemedy is what to do where there is no GPU, by what nvidia-smi said.
func gpuRemedy(none *host.NoGPUError) string {
	says := func(words string) bool { return strings.Contains(none.Reason, words) }
	switch {
	case notInstalled(none):
		return "install NVIDIA's driver, on Ubuntu `sudo ubuntu-drivers install --gpgpu`, restart, and look with `nvidia-smi`"
	case none.Hangs:
		return "`sudo dmesg | grep -E 'NVRM|Xid'` says what the driver met; restart this machine"
	case says("Driver/library version mismatch"):
		return "the driver was updated while it was loaded: restart this machine, or `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`"
	case says("couldn't communicate with the NVIDIA driver"):
		return "`sudo modprobe nvidia`; if there is no such module for this kernel, `sudo dkms autoinstall` makes it"
	case says("No devices"):
		return "`lspci -d 10de:` lists NVIDIA's hardware; `sudo dmesg | grep NVRM` says why the driver does not take it"
	case says("CDI"):
		return "on that host: `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, then restart the container engine"
	default:
		return "look at `nvidia-smi`"
	}
}

// release says which of NVIDIA's releases a run would take, and whether that is known to work.
func (d *diagnosis) release(context.Context) finding {
	l, err := d.lane()
	if err != nil || l.Images != steps.NGC {
		return finding{}
	}
	r, err := d.choice()
	switch {
	case err != nil:
		return failed(err, "")
	case r.Release.Tag == "":
		return finding{} // the server image says it
	case len(r.Doubts) > 0:
		return finding{Status: statusWarn, Saw: r.Release.Tag + ": " + r.Doubts[0]}
	}
	saw := r.Release.Tag
	if r.Release.TensorRT != "" {
		saw += " with TensorRT " + r.Release.TensorRT
	}
	if l.host.Driver != "" {
		saw += " runs on driver " + l.host.Driver
	}
	if d.wishes.release == "" {
		saw += newerOnes(l.host)
	}
	return finding{Status: statusOK, Saw: saw}
}

// newerOnes says why the release after the newest that fits does not: those after it ask for no less.
func newerOnes(h release.Host) string {
	_, reasons := release.Newest(h)
	if len(reasons) == 0 {
		return ""
	}
	next := reasons[len(reasons)-1].Tag
	var texts []string
	for _, r := range reasons {
		if r.Tag == next {
			texts = append(texts, r.Text)
		}
	}
	return fmt.Sprintf("; %s and newer do not: %s", next, strings.Join(texts, ", and "))
}

// containers says whether the container engine can give a container the GPUs. Only a container proves that it does: a run looks into
// its own before anything is built.
func (d *diagnosis) containers(context.Context) finding {
	l, err := d.lane()
	if err != nil || l.Lane != steps.GPU {
		return finding{}
	}
	info, err := d.info()
	if err != nil {
		return finding{}
	}
	missing := missingCDI(info.CDIDevices, d.wishes.gpus)
	switch hook, hookErr := d.lookPath(toolkitHook); {
	case slices.Contains(info.Runtimes, nvidiaRuntime):
		return finding{Status: statusOK, Saw: "the container engine has the nvidia runtime"}
	case len(info.CDIDevices) > 0 && missing == "":
		return finding{Status: statusOK, Saw: "the container engine lists " + strings.Join(info.CDIDevices, ", ")}
	case !info.Remote && hookErr == nil && !podman(info):
		return finding{Status: statusOK, Saw: hook + " is there, which the container engine runs for --gpus if it was started after it was installed"}
	case missing != "":
		return finding{
			Status: statusFail, Remedy: renewCDI,
			Saw: fmt.Sprintf("the container engine lists %s and not %s", strings.Join(info.CDIDevices, ", "), missing),
		}
	case podman(info) && !info.Remote && d.cdiSpec() != "":
		return finding{Status: statusOK, Saw: d.cdiSpec() + " has NVIDIA's devices"}
	case podman(info):
		return finding{Status: statusFail, Saw: "Podman has no CDI specification of NVIDIA's devices", Remedy: "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, or --accel cpu"}
	default:
		return finding{
			Status: statusFail, Remedy: installToolkit,
			Saw: "the container engine offers no GPU: it has no nvidia runtime, lists no CDI device of kind " + cdiKind + ", and there is no " + toolkitHook,
		}
	}
}

func podman(info container.Info) bool { return info.Name == "Podman Engine" }

// missingCDI is the first device that gpus names and a container engine that lists CDI devices does not; empty if it lists all.
func missingCDI(listed []string, gpus string) string {
	count, names, err := host.ParseGPUs(gpus)
	if err != nil || len(listed) == 0 {
		return ""
	}
	if count < 0 {
		names = []string{"all"}
	}
	for i := range max(count, 0) {
		names = append(names, strconv.Itoa(i))
	}
	for _, name := range names {
		if id := cdiKind + "=" + name; !slices.Contains(listed, id) {
			return id
		}
	}
	return ""
}

// cdiSpec is the file that names NVIDIA's devices for those who read the specifications themselves; empty if there is none.
func (d *diagnosis) cdiSpec() string {
	for _, pattern := range []string{"etc/cdi/*", "var/run/cdi/*"} {
		files, _ := fs.Glob(d.root, pattern) // the patterns are well formed
		for _, name := range files {
			if data, err := fs.ReadFile(d.root, name); err == nil && strings.Contains(string(data), cdiKind) {
				return "/" + name
			}
		}
	}
	return ""
}

// memory looks whether others have filled the GPU.
func (d *diagnosis) memory(context.Context) finding {
	l, err := d.lane()
	if err != nil || l.Lane != steps.GPU {
		return finding{}
	}
	free, total := host.Memory(l.chosen)
	if total == 0 {
		return finding{}
	}
	least, all := steps.EngineMemory(l.Precision, l.MaxBatch)
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s of %s are free", units.HumanSize(float64(free)), units.HumanSize(float64(total)))}
	building := fmt.Sprintf(", and building an engine for up to %d pictures ", l.MaxBatch)
	switch {
	case free < least:
		f.Status = statusFail
		f.Saw += building + fmt.Sprintf("needs %s at least", units.HumanSize(float64(least)))
	case free < all:
		f.Status = statusWarn
		f.Saw += building + fmt.Sprintf("takes %s if every kernel is tried", units.HumanSize(float64(all)))
	default:
		return f
	}
	f.Remedy = "`nvidia-smi` lists who uses it; a smaller --max-batch needs less"
	return f
}
