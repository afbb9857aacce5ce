package release

import (
	"fmt"
	"slices"
)

// Host is what of a host decides which release fits it.
type Host struct {
	// Driver is the version of NVIDIA's driver, 580.159.04. Empty, or no version: not known, and nothing is excluded by
	// it.
	Driver string
	// CUDA is the newest CUDA that the driver runs, 13.0, by which the container runtime decides whether to start an
	// image: see NVIDIA_REQUIRE_CUDA. Empty where it is not known, or where no container runtime asks for it, as for
	// CDI devices.
	CUDA string
	// Compute are the compute capabilities of the GPUs that will be used, 9.0. A value that is no version is not known:
	// a doubt. None: no GPU.
	Compute []string
	// DataCenter says that all of them are data center GPUs, which NVIDIA supports on older driver branches.
	DataCenter bool
}

// Kind is the kind of a [Reason].
type Kind string

// The kinds of reasons. Those up to NotConfirmed keep [Newest] from taking a release; the others are doubts of
// [Release.Check].
const (
	DriverTooOld  Kind = "driver"
	ComputeTooLow Kind = "compute"
	NotConfirmed  Kind = "not-confirmed" // only an unconfirmed figure says that it fits
	// OlderBranch: the release fits by CUDA's minor version compatibility, with a driver that is older than its notes
	// ask for.
	OlderBranch Kind = "older-branch"
	// ComputeUnknown: drivers before R510 do not tell a GPU's compute capability, and of a GPU on another host nothing
	// is known.
	ComputeUnknown Kind = "compute-unknown"
)

// Reason is one reason why a release does not fit, or fits with a doubt.
type Reason struct {
	Tag  string
	Kind Kind
	Text string // a sentence without a full stop: what the release needs, what the host has
}

// Newest returns the newest release that fits the host and whose TensorRT and Triton a source confirms, be it an
// indirect one, and for each newer one the reasons why it was not taken, newest first: how trtexec is spoken to follows
// from TensorRT, and the image cannot always be asked. If nothing fits, the release is zero and the reasons are those
// of all.
func Newest(h Host) (Release, []Reason) {
	var reasons []Reason
	rows := All()
	for i := range slices.Backward(rows) {
		against := exclusions(rows, i, h)
		if len(against) == 0 {
			against = rows[i].unproven(h)
		}
		if len(against) == 0 {
			return rows[i], reasons
		}
		reasons = append(reasons, against...)
	}
	return Release{}, reasons
}

// unproven is why a release that fits is not the host's default.
func (r Release) unproven(h Host) []Reason {
	switch {
	case len(h.Compute) > 0 && !r.runsOnDriver(h): // by its neighbors alone, which its image may overrule
		return []Reason{{r.Tag, NotConfirmed, "its CUDA is not confirmed"}}
	case r.Triton == "" || r.Unconfirmed.Contains(Triton):
		return []Reason{{r.Tag, NotConfirmed, "its Triton is not confirmed"}}
	case r.TensorRT == "" || r.Unconfirmed.Contains(TensorRT):
		return []Reason{{r.Tag, NotConfirmed, "its TensorRT is not confirmed"}}
	default:
		return nil
	}
}

// Check returns what speaks against running r on a host, in the order driver, compute capability. Nothing is
// returned for a release that fits by confirmed figures. r may hold what its image's environment said.
func (r Release) Check(h Host) []Reason {
	rows := All()
	i := r.position(rows)
	if i < len(rows) && rows[i].Tag == r.Tag {
		rows[i] = r
	} else {
		rows = slices.Insert(rows, i, r)
	}
	reasons := exclusions(rows, i, h)
	if note, ok := r.olderBranch(h); ok && !slices.ContainsFunc(reasons, isKind(DriverTooOld)) {
		reasons = append(reasons, note)
	}
	if newer := h.tooNewFor(r); newer != "" {
		reasons = append(reasons, Reason{r.Tag, NewerGPU, newer})
	}
	if slices.ContainsFunc(h.Compute, func(c string) bool { return known(c).IsZero() }) {
		reasons = append(reasons, Reason{
			r.Tag, ComputeUnknown,
			fmt.Sprintf("it needs compute capability %s or higher, and that of the GPU is not known",
				r.FigureText(MinCompute)),
		})
	}
	return reasons
}

func isKind(k Kind) func(Reason) bool { return func(r Reason) bool { return r.Kind == k } }

// verdict is what can be said of one demand of a release.
type verdict int

const (
	met verdict = iota
	doubtful
	unmet
)

// exclusions are the reasons against rows[i]. The neighbors bound what is unconfirmed: figures only grow from release
// to release, so a demand is met for sure where the next confirmed figure is met, and not met where the one before is
// not.
func exclusions(rows []Release, i int, h Host) []Reason {
	if len(h.Compute) == 0 {
		return nil
	}
	r := rows[i]
	var reasons []Reason
	add := func(v verdict, kind Kind, figure, no string) {
		switch v {
		case unmet:
			reasons = append(reasons, Reason{r.Tag, kind, no})
		case doubtful:
			text := fmt.Sprintf("its %s is not confirmed, and the releases around it do not settle it", figure)
			reasons = append(reasons, Reason{r.Tag, NotConfirmed, text})
		case met:
		}
	}

	driver := judge(rows, i, CUDA, func(o Release) bool { return o.runsOnDriver(h) })
	add(driver, DriverTooOld, "CUDA",
		fmt.Sprintf("its CUDA%s needs driver %d or newer, and the host has %s", spaced(r.FigureText(CUDA)), r.MinDriver,
			h.Driver))

	lowest, ok := h.lowestCompute()
	if !ok {
		return reasons
	}
	compute := judge(rows, i, MinCompute, func(o Release) bool { return lowest.Compare(known(o.MinCompute)) >= 0 })
	add(compute, ComputeTooLow, "minimum compute capability",
		fmt.Sprintf("it needs compute capability %s or higher, and the host has a GPU of %s", r.FigureText(MinCompute),
			lowest))
	return reasons
}

// tooNewFor says of a GPU that its architecture came with a later CUDA than r's. Within an architecture, code for a
// lower compute capability runs. 9.x came with CUDA 11.8, 10.x to 12.x with 12.8 (from these on CMake's
// select_compute_arch and PyTorch's build know them); that TensorRT of an older one builds nothing for them follows,
// and was not tried: a doubt.
func (h Host) tooNewFor(r Release) string {
	cuda := known(r.CUDA)
	for _, c := range h.Compute {
		gpu := known(c)
		for _, came := range []struct {
			major int
			with  Version
		}{{9, Version{Major: 11, Minor: 8}}, {10, Version{Major: 12, Minor: 8}}} {
			if gpu.Major >= came.major && !cuda.IsZero() && cuda.Compare(came.with) < 0 {
				return fmt.Sprintf("its CUDA %s is older than GPUs of compute capability %s, which came with CUDA "+
					"%s: no engine may build", r.FigureText(CUDA), gpu, came.with)
			}
		}
	}
	return ""
}

// spaced is a version with a space before it; nothing if it is not known.
func spaced(version string) string {
	if version == "" {
		return ""
	}
	return " " + version
}

// judge asks whether ok holds for rows[i], by its own figure if that is confirmed, else by the nearest ones that are. A
// figure after which no confirmed one follows leaves a doubt.
func judge(rows []Release, i int, figure Figures, ok func(Release) bool) verdict {
	confirmed := func(r Release) bool { return !r.Unconfirmed.Contains(figure) }
	if j := slices.IndexFunc(rows[i:], confirmed); j >= 0 {
		if ok(rows[i+j]) {
			return met
		}
		if j == 0 {
			return unmet
		}
	}
	for _, r := range slices.Backward(rows[:i]) {
		if confirmed(r) {
			if !ok(r) {
				return unmet
			}
			break
		}
	}
	return doubtful
}

// runsOnDriver says whether the host's driver is new enough by itself, or on data center GPUs with the compatibility
// package.
func (r Release) runsOnDriver(h Host) bool {
	driver := known(h.Driver)
	if driver.IsZero() || driver.Major >= r.MinDriver {
		return true
	}
	if !h.DataCenter {
		return false
	}
	return slices.ContainsFunc(r.DataCenterDrivers, func(s string) bool {
		first := known(s)
		return driver.Major == first.Major && driver.Compare(first) >= 0
	})
}

// olderBranch tells of a driver that is older than the release notes ask for.
func (r Release) olderBranch(h Host) (Reason, bool) {
	driver := known(h.Driver)
	if h.DataCenter || len(h.Compute) == 0 || driver.IsZero() || driver.Major >= r.NotesDriver ||
		r.Unconfirmed.Contains(NotesDriver) {
		return Reason{}, false
	}
	return Reason{r.Tag, OlderBranch, fmt.Sprintf(
		"its notes ask for driver %d or newer; %s runs it in CUDA's minor version compatibility mode", r.NotesDriver,
		h.Driver)}, true
}

// lowestCompute is that of the weakest GPU; false if none is known.
func (h Host) lowestCompute() (Version, bool) {
	var versions []Version
	for _, c := range h.Compute {
		if v := known(c); !v.IsZero() {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return Version{}, false
	}
	return slices.MinFunc(versions, Version.Compare), true
}
