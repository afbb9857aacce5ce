package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/steps"
)

// gpu says which GPUs a run would take.
func (d *diagnosis) gpu(context.Context) finding {
	l, err := d.lane()
	_, infoErr := d.info()
	none, isNone := errors.AsType[*host.NoGPUError](err)
	switch {
	case infoErr != nil && errors.Is(err, infoErr):
		return finding{} // they are those of a container engine on another host
	case isNone:
		return finding{Status: statusFail, Saw: err.Error(), Remedy: gpuRemedy(none) + "; or --accel cpu"}
	case errors.Is(err, errSlowSMI):
		return finding{Status: statusWarn, Saw: err.Error(), Remedy: "`sudo nvidia-smi -pm 1` keeps the driver loaded, so that it answers at once"}
	case err != nil:
		return failed(err, "")
	case l.Lane == steps.CPU:
		f := finding{Status: statusOK, Saw: "the cpu lane is taken: " + l.LaneReason}
		if l.driver {
			f.Status, f.Remedy = statusWarn, "look at `nvidia-smi`"
			if errors.As(l.noGPU, &none) {
				f.Remedy = gpuRemedy(none)
			}
		}
		return f
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

// notInstalled says of what asking nvidia-smi came to that there is none.
func notInstalled(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
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
	p, err := d.choice()
	switch {
	case err != nil:
		return failed(err, "")
	case p.Tag == "":
		return finding{} // the server image says it
	case len(p.doubts) > 0:
		return finding{Status: statusWarn, Saw: p.Tag + ": " + p.doubts[0]}
	}
	saw := p.Tag
	if said := p.Said(release.TensorRT); said != "" {
		saw += " with TensorRT " + said
	}
	if l.host.Driver != "" {
		saw += " runs on driver " + l.host.Driver
	}
	if d.wishes.release == "" {
		saw += newerOnes(l.host)
	}
	return finding{Status: statusOK, Saw: saw}
}

// newerOnes says why newer releases than the newest that fits are not taken: for each demand the oldest that makes it, since those after it
// ask for no less, and those of which not enough is known.
func newerOnes(h release.Host) string {
	_, reasons := release.Newest(h)
	var says strings.Builder
	var said []release.Kind
	var unknown []string
	refused := func(tag string) bool { // whatever else is not known of it
		return slices.ContainsFunc(reasons, func(r release.Reason) bool { return r.Tag == tag && r.Kind != release.NotConfirmed })
	}
	for _, r := range slices.Backward(reasons) {
		switch {
		case r.Kind == release.NotConfirmed && refused(r.Tag):
		case r.Kind == release.NotConfirmed:
			unknown = append(unknown, r.Tag)
		case !slices.Contains(said, r.Kind):
			said = append(said, r.Kind)
			fmt.Fprintf(&says, "; %s and newer do not: %s", r.Tag, r.Text)
		}
	}
	if unknown = slices.Compact(unknown); len(unknown) > 0 {
		fmt.Fprintf(&says, "; %s only by --release, since not all of their figures are confirmed", strings.Join(unknown, ", "))
	}
	return says.String()
}

// containers says how the container engine gives GPUs to containers.
func (d *diagnosis) containers(context.Context) finding {
	l, err := d.lane()
	if err != nil || l.Lane != steps.GPU {
		return finding{}
	}
	if _, err := d.info(); err != nil {
		return finding{}
	}
	if l.access.doubt {
		return finding{Status: statusWarn, Saw: l.access.saw, Remedy: podmanCDI}
	}
	return finding{Status: statusOK, Saw: l.access.saw}
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
	least, all := trtexec.BuildMemory(l.Precision, l.MaxBatch)
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s of %s are free", bytesize.Format(free), bytesize.Format(total))}
	switch building := "building an engine for up to " + printable.Count(l.MaxBatch, "picture"); {
	case free < least: // a run whose engine is stored builds none
		f.Saw += fmt.Sprintf(", and %s needs %s at least: build-engine would refuse, unless the engine is in the cache", building, bytesize.Format(least))
	case free < all:
		f.Saw += fmt.Sprintf(", and %s takes %s if every kernel is tried", building, bytesize.Format(all))
	default:
		return f
	}
	f.Status, f.Remedy = statusWarn, "`nvidia-smi` lists who uses it; a smaller --max-batch needs less"
	return f
}
