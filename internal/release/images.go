package release

import (
	"fmt"
	"strings"
)

// Image is what can be known of an image without running it.
type Image struct {
	Arch string            // Go's name: amd64, arm64. Empty if it is not known
	Env  map[string]string // nil if it is not known
}

// The kinds of reasons that only the images give. They speak against a run, and [NewerGPU] and [Requirement] are
// doubts.
const (
	OtherArch       Kind = "arch"     // an image is for another architecture than the container engine
	TensorRTDiffers Kind = "tensorrt" // an engine is loaded by the TensorRT that built it, and by no other
	TensorRTUnknown Kind = "no-tensorrt"
	DALINewer       Kind = "dali" // what a newer DALI serialized need not load
	NewerGPU        Kind = "newer-gpu"
	Requirement     Kind = "requirement" // what an image asks of the driver by NVIDIA_REQUIRE_CUDA
)

// IsDoubt says whether a reason of this kind stops nothing.
func (k Kind) IsDoubt() bool {
	return k == NotConfirmed || k == OlderBranch || k == ComputeUnknown || k == NewerGPU || k == Requirement
}

// Conflicts returns what speaks against a run of r with these images on a host whose container engine runs arch: that
// of the images against each other, then what [Release.Check] says of what the server image holds. On a host without a
// GPU neither TensorRT nor CUDA counts. What is not known of an image speaks for nothing.
func (r Release) Conflicts(exporter, server Image, h Host, arch string) []Reason {
	r = r.WithEnv(server.Env)
	var reasons []Reason
	add := func(kind Kind, format string, args ...any) {
		reasons = append(reasons, Reason{r.Tag, kind, fmt.Sprintf(format, args...)})
	}
	for _, image := range []struct {
		where Where
		arch  string
	}{{ExporterImage, exporter.Arch}, {ServerImage, server.Arch}} {
		if image.arch != "" && arch != "" && image.arch != arch {
			add(OtherArch, "its %s image is for %s, and the container engine runs %s", image.where, image.arch, arch)
		}
	}
	writes, reads := known(exporter.Env["DALI_VERSION"]), known(server.Env["DALI_VERSION"])
	if r.DALIIn == ExporterImage && !reads.IsZero() && writes.Compare(reads) > 0 {
		add(DALINewer, "DALI %s of its exporter image would serialize for DALI %s of its server image, which is older",
			writes, reads)
	}
	if len(h.Compute) == 0 {
		return reasons
	}
	reasons = append(reasons, r.engineConflicts(exporter, server)...)
	reasons = append(reasons, r.Check(h)...)
	if r.EngineIn == ExporterImage || r.DALIIn == ExporterImage {
		reasons = append(reasons, r.exporterDriver(exporter, h)...)
		reasons = append(reasons, r.requirement(ExporterImage, exporter, h)...)
	}
	reasons = append(reasons, r.requirement(ServerImage, server, h)...)
	return append(reasons, r.archList(server, h)...)
}

// engineConflicts compare the TensorRT that builds with the one that loads.
func (r Release) engineConflicts(exporter, server Image) []Reason {
	if r.EngineIn == ServerImage {
		if server.Env != nil && r.TensorRTVersion().IsZero() {
			return []Reason{{r.Tag, TensorRTUnknown, "its server image does not say which TensorRT it holds (TRT_VERSION)"}}
		}
		return nil
	}
	builds, loads := number(exporter.Env["TRT_VERSION"]), number(server.Env["TRT_VERSION"])
	if known(builds).IsZero() || known(loads).IsZero() || sameVersion(builds, loads) {
		return nil
	}
	return []Reason{{r.Tag, TensorRTDiffers, fmt.Sprintf("TensorRT %s of its exporter image would build an engine "+
		"that TensorRT %s of its server image cannot load", builds, loads)}}
}

// sameVersion compares as many parts as both have: 10.9 and 10.9.0.34 may be the same.
func sameVersion(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".")
}

// exporterDriver holds the driver against the CUDA of an exporter image that works on the GPU.
func (r Release) exporterDriver(exporter Image, h Host) []Reason {
	cuda, ok := exporter.Env["CUDA_VERSION"]
	if !ok || known(cuda).IsZero() {
		return nil
	}
	r = r.withCUDA(number(cuda))
	if r.runsOnDriver(h) {
		return nil
	}
	return []Reason{{r.Tag, DriverTooOld, fmt.Sprintf("CUDA %s of its exporter image needs driver %d or newer, "+
		"and the host has %s", r.CUDA, r.MinDriver, h.Driver)}}
}

// archList holds the weakest GPU against the architectures that the image's CUDA code is compiled for: CUDA_ARCH_LIST,
// such as "7.5 8.0 9.0+PTX". Code runs on GPUs of its major version with the same or a higher minor one; PTX also on
// later ones.
func (r Release) archList(server Image, h Host) []Reason {
	lowest, ok := h.lowestCompute()
	if !ok {
		return nil
	}
	var first, last Version
	ptx := false
	separates := func(c rune) bool { return strings.ContainsRune(" ,;", c) }
	for _, field := range strings.FieldsFunc(server.Env["CUDA_ARCH_LIST"], separates) {
		v := known(field) // leaves out +PTX
		if v.IsZero() || !strings.Contains(field, ".") {
			return nil // another way to write it
		}
		ptx = ptx || strings.HasSuffix(field, "+PTX")
		if first.IsZero() || v.Compare(first) < 0 {
			first = v
		}
		if v.Compare(last) > 0 {
			last = v
		}
	}
	switch {
	case first.IsZero():
		return nil
	case lowest.Compare(first) < 0:
		return []Reason{{r.Tag, ComputeTooLow, fmt.Sprintf("its server image is compiled "+
			"for compute capability %s or higher, and the host has a GPU of %s", first, lowest)}}
	case lowest.Major > last.Major && !ptx:
		return []Reason{{r.Tag, NewerGPU, fmt.Sprintf("its server image is compiled "+
			"for compute capability up to %s, and the host has a GPU of %s", last, lowest)}}
	default:
		return nil
	}
}
