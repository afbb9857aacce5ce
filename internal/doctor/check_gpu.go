package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// gpu names the GPUs that a run would take.
func (x *Examination) gpu() Finding {
	t := x.Target()
	if t.Lane == target.CPU {
		return Finding{Status: OK, Saw: "the cpu lane is taken: " + t.LaneReason}
	}
	f := Finding{Status: OK, Saw: t.LaneReason}
	if t.Device.Compute != "" {
		f.Saw += ", compute capability " + t.Device.Compute
	}
	return f
}

// release names the release that a run would take, and says whether its published figures fit this host.
func (x *Examination) release() Finding {
	t := x.Target()
	if x.Request.ServerImage != "" || x.refused(target.CheckRelease) {
		return Finding{} // the server image decides the release
	}
	// The figures in the image's environment are another check's.
	r, err := release.Find(t.Release.Tag)
	if err != nil {
		return Finding{Status: Fail, Saw: err.Error()}
	}
	if t.Lane == target.GPU && x.Request.Release != "" {
		for _, reason := range r.Check(t.Fits) {
			return Finding{Status: Warn, Saw: r.Tag + ": " + reason.Text}
		}
	}
	text := r.Tag
	if tensorRT := r.FigureText(release.TensorRT); tensorRT != "" {
		text += " with TensorRT " + tensorRT
	}
	if t.Fits.Driver != "" {
		text += " runs on driver " + t.Fits.Driver
	}
	if x.Request.Release == "" {
		text += newerReleases(t.Fits)
	}
	return Finding{Status: OK, Saw: text}
}

// newerReleases says why releases newer than the newest that fits are not taken. It names, for each requirement, the
// oldest release that has it, since later ones require no less, and the releases of which not enough is known.
func newerReleases(h release.Host) string {
	_, reasons := release.Newest(h)
	var text strings.Builder
	var kinds []release.Kind
	var unknown []string
	refused := func(tag string) bool { // for a reason besides unconfirmed figures
		return slices.ContainsFunc(reasons, func(r release.Reason) bool {
			return r.Tag == tag && r.Kind != release.NotConfirmed
		})
	}
	for _, r := range slices.Backward(reasons) {
		switch {
		case r.Kind == release.NotConfirmed && refused(r.Tag):
		case r.Kind == release.NotConfirmed:
			unknown = append(unknown, r.Tag)
		case !slices.Contains(kinds, r.Kind):
			kinds = append(kinds, r.Kind)
			fmt.Fprintf(&text, "; %s and newer do not: %s", r.Tag, r.Text)
		}
	}
	if unknown = slices.Compact(unknown); len(unknown) > 0 {
		fmt.Fprintf(&text, "; %s only by --release, since not all of their figures are confirmed",
			strings.Join(unknown, ", "))
	}
	return text.String()
}

// access says how the container engine gives GPUs to containers.
func (x *Examination) access() Finding {
	if access := x.Target().GPUAccess; access != "" {
		return Finding{Status: OK, Saw: access}
	}
	return Finding{}
}

// gpuMemory reports whether the GPU has enough free memory to build an engine.
func (x *Examination) gpuMemory() Finding {
	t := x.Target()
	free, total := host.Memory(t.Chosen)
	if total == 0 {
		return Finding{}
	}
	least, all := trtexec.BuildMemory(t.Precision, t.MaxBatch)
	f := Finding{Status: OK, Saw: fmt.Sprintf("%s of %s are free", bytesize.Format(free), bytesize.Format(total))}
	switch building := "building an engine for up to " + printable.Count(t.MaxBatch, "picture"); {
	case free < least: // a run whose engine is stored builds none
		f.Saw += fmt.Sprintf(", and %s needs %s at least: build-engine would refuse, unless the engine is in the cache",
			building, bytesize.Format(least))
	case free < all:
		f.Saw += fmt.Sprintf(", and %s takes %s if every kernel is tried", building, bytesize.Format(all))
	default:
		return f
	}
	f.Status, f.Remedy = Warn, "`nvidia-smi` lists who uses it; a smaller --max-batch needs less"
	return f
}
