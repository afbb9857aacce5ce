// Package release knows what each NGC release of the PyTorch and Triton images holds and needs, and which release fits
// a host.
//
// The figures come from NVIDIA's release notes, from the release branches of Triton's repositories (build.py,
// compatibility.md, DALI_VERSION) and from the layer histories of images; none was measured here. A figure that only
// others have is marked in [Release.Indirect], and one that none of these confirms in [Release.Unconfirmed]. The latter
// never decides alone: [Newest] then asks the nearest releases before and after whose figure is confirmed. What an
// image's own environment says replaces a figure of the table, see [Release.WithEnv].
package release

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultRegistry is where NVIDIA publishes both images.
const DefaultRegistry = "nvcr.io"

// Where names the image in which a step of a run does its work.
type Where string

// The images of one release.
const (
	// ServerImage is nvidia/tritonserver:YY.MM-py3. It holds TensorRT with trtexec, so an engine built there matches
	// the server.
	ServerImage Where = "server"
	// ExporterImage is nvidia/pytorch:YY.MM-py3. It holds PyTorch, TensorRT with trtexec, and DALI.
	ExporterImage Where = "exporter"
)

// Figures is a set of a release's figures.
type Figures uint8

// The figures that can be unconfirmed.
const (
	Triton Figures = 1 << iota
	TensorRT
	CUDA
	NotesDriver
	DALI
	MinCompute
	DALIPython // also DALIInterpreter
)

// all is every figure: what is unconfirmed of a release that the table does not hold.
const all = Triton | TensorRT | CUDA | NotesDriver | DALI | MinCompute | DALIPython

// Contains reports whether f has all figures of g.
func (f Figures) Contains(g Figures) bool { return f&g == g }

// Release is what is known of one NGC release. An empty string or a zero is a figure that is not known.
type Release struct {
	Tag string // YY.MM

	Triton   string // version of the server
	TensorRT string // of the server image, -py3 variant
	CUDA     string
	DALI     string // of the server's DALI backend
	ORT      string // ONNX Runtime of the server

	// Unconfirmed is the set of figures that no source confirms. CUDA and MinCompute are in it where they are not
	// known: what they demand cannot be met for sure then.
	Unconfirmed Figures
	// Indirect is the set of figures that no page of NVIDIA's about the server image has, but others: projects that use
	// the image, or pages about another image of the release. They count as confirmed, and are told with that.
	Indirect Figures

	// MinDriver is the driver branch (570 for 570.124.06) under which no GPU runs this release by itself. CUDA's minor
	// version compatibility sets it: 470 for CUDA 11, 525 for CUDA 12, 580 for CUDA 13 (DALI's installation guide has ≥
	// 525.60 and ≥ 580).
	MinDriver int
	// NotesDriver is the branch that the release notes ask for on GPUs that are not for data centers. An older branch,
	// down to MinDriver, runs in CUDA's minor version compatibility mode: seen with tritonserver:26.06 on an RTX A6000
	// with 580.159.
	NotesDriver int
	// DataCenterDrivers are the first versions of the older branches that the release notes allow on data center GPUs,
	// where the image's compatibility package bridges the gap. Nil where the notes were not read.
	DataCenterDrivers []string
	// MinCompute is the lowest compute capability of a GPU on which this release builds and serves a TensorRT engine.
	MinCompute string

	// EngineIn is where trtexec builds the engine, DALIIn where DALI serializes its pipeline.
	EngineIn, DALIIn Where
	// DALIPython is the folder to have on PYTHONPATH for `import nvidia.dali` in the server image; empty if the
	// interpreter finds it.
	DALIPython string
	// DALIInterpreter is the Python in the image of DALIIn that can import nvidia.dali.
	DALIInterpreter string
}

// FigureText returns a figure for use in a sentence, with a note on its source where that is weak. It is empty for a
// figure that is not known or that is no version.
func (r Release) FigureText(figure Figures) string {
	value := map[Figures]string{
		Triton: r.Triton, TensorRT: r.TensorRT, CUDA: r.CUDA, DALI: r.DALI,
		MinCompute: r.MinCompute,
	}[figure]
	switch {
	case value == "":
		return ""
	case r.Unconfirmed.Contains(figure):
		return value + " (not confirmed)"
	case r.Indirect.Contains(figure):
		return value + " (not by NVIDIA's pages on the image)"
	default:
		return value
	}
}

// confirm marks a figure as what an image says of itself.
func (r *Release) confirm(figure Figures) {
	r.Unconfirmed &^= figure
	r.Indirect &^= figure
}

// TensorRTVersion is TensorRT as a version; zero if it is not known.
func (r Release) TensorRTVersion() Version {
	return known(r.TensorRT)
}

// known reads a version and takes what cannot be read for not known.
func known(s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		return Version{}
	}
	return v
}

// LimitsQueues says whether a step of an ensemble may have a limit to its queue: before 26.02 the ensemble's request
// hung for ever when a step refused it (triton-inference-server/core #466, server #8631).
func (r Release) LimitsQueues() bool { return r.Tag >= "26.02" }

// LimitsInflight says whether max_inflight_requests of an ensemble bounds the requests at each of its steps. Before
// 26.04 it counted those of one request alone, and before October 2025 there was no such field
// (triton-inference-server/core #482, common #152, server #8458, #8597).
func (r Release) LimitsInflight() bool { return r.Tag >= "26.04" }

// ExporterRef is the PyTorch image of this release in a registry: host, or host and prefix. An empty registry is
// [DefaultRegistry].
func (r Release) ExporterRef(registry string) string { return r.ref(registry, "pytorch") }

// ServerRef is the Triton image of this release. It is the plain -py3 variant: others hold another TensorRT under the
// same tag (26.07-trtllm-python-py3 has 10.14, 26.07-py3 has 11.1).
func (r Release) ServerRef(registry string) string { return r.ref(registry, "tritonserver") }

func (r Release) ref(registry, name string) string {
	registry = strings.TrimRight(registry, "/")
	if registry == "" {
		registry = DefaultRegistry
	}
	return fmt.Sprintf("%s/nvidia/%s:%s-py3", registry, name, r.Tag)
}

// WithEnv returns the release with what the environment of its server image says: TRT_VERSION, CUDA_VERSION,
// DALI_VERSION and TRITON_SERVER_VERSION. These figures are then confirmed. Values that are no version are left out.
func (r Release) WithEnv(env map[string]string) Release {
	for name, value := range env {
		if _, err := ParseVersion(value); err != nil {
			continue
		}
		value = number(value)
		switch name {
		case "TRT_VERSION":
			r.TensorRT = value
			r.confirm(TensorRT)
		case "CUDA_VERSION":
			r = r.withCUDA(value)
		case "DALI_VERSION":
			r.DALI = value
			r.confirm(DALI)
		case "TRITON_SERVER_VERSION":
			r.Triton = value
			r.confirm(Triton)
		}
	}
	return r
}

// withCUDA returns the release with the CUDA that an image says. Of another CUDA than the row's, by major and minor
// version, the notes of the row say nothing: neither which driver they ask for nor which older ones the image's
// compatibility package bridges.
func (r Release) withCUDA(cuda string) Release {
	was, is := known(r.CUDA), known(cuda)
	if was.Major != is.Major || was.Minor != is.Minor {
		r.NotesDriver, r.DataCenterDrivers = 0, nil
	}
	r.CUDA, r.MinDriver = cuda, minDriver(is)
	r.confirm(CUDA)
	return r
}

// FromEnv returns the release of a server image of any name and tag by its environment alone: that of its
// NVIDIA_TRITON_SERVER_VERSION, as [Find] knows it. An image that has none, or one that is malformed or too old, gets
// the places of work of the newest release, no Tag, and the demands of the releases with the next TensorRT. Figures
// that the environment does not say are then not known.
func FromEnv(env map[string]string) Release {
	if r, err := Find(env["NVIDIA_TRITON_SERVER_VERSION"]); err == nil {
		return r.WithEnv(env)
	}
	rows := All()
	newest := rows[len(rows)-1]
	r := Release{TensorRT: number(env["TRT_VERSION"])}
	after := rows[min(r.position(rows), len(rows)-1)]
	return unlisted("", newest, after).WithEnv(env)
}

// position is the index of the first row that is not before r: by tag, or by TensorRT if r has none. len(rows) if r is
// newer than all, or if nothing is known of it.
func (r Release) position(rows []Release) int {
	before := func(o Release) bool { return o.Tag < r.Tag }
	if r.Tag == "" {
		tensorRT := r.TensorRTVersion()
		before = func(o Release) bool { return tensorRT.IsZero() || o.TensorRTVersion().Compare(tensorRT) <= 0 }
	}
	if i := slices.IndexFunc(rows, func(o Release) bool { return !before(o) }); i >= 0 {
		return i
	}
	return len(rows)
}

// All returns the releases of the table, oldest first.
func All() []Release {
	rows := table()
	for i, r := range rows {
		rows[i] = r.complete()
		if r.CUDA == "" { // it may ask for more, and for no less
			rows[i].MinDriver = rows[i-1].MinDriver
		}
	}
	return rows
}

// Find returns the release of a tag. A well-formed tag from the oldest release on that the table does not hold is no
// error: what is returned works where and as the release before it does, needs what the release after it (or the
// newest) needs, and has no versions. A malformed or too old tag is an error that names the nearest release.
func Find(tag string) (Release, error) {
	rows := All()
	year, month, exact := readTag(tag)
	if !exact || month < 1 || month > 12 {
		return Release{}, fmt.Errorf("release %q is not of the form YY.MM: did you mean %s?", tag,
			nearest(rows, year, month))
	}
	if tag < rows[0].Tag {
		return Release{}, fmt.Errorf("release %s is older than %s, the oldest that is supported: use %s", tag,
			rows[0].Tag, rows[0].Tag)
	}
	before, after := rows[0], rows[len(rows)-1]
	for i, r := range rows {
		if r.Tag == tag {
			return r, nil
		}
		if r.Tag < tag {
			before = r
			after = rows[min(i+1, len(rows)-1)]
		}
	}
	return unlisted(tag, before, after), nil
}

// unlisted is a release that the table does not hold: it works as one row does, and needs what another needs.
func unlisted(tag string, works, needs Release) Release {
	return Release{
		Tag: tag, Unconfirmed: all, MinDriver: needs.MinDriver, MinCompute: needs.MinCompute,
		EngineIn: works.EngineIn, DALIIn: works.DALIIn, DALIPython: works.DALIPython,
		DALIInterpreter: works.DALIInterpreter,
	}
}

// readTag finds year and month in what a user wrote. exact is set for YY.MM and nothing else; zeros are returned where
// no such numbers are found: "25.3", "v25.03-py3" and "2025.03" have them, "latest" has not.
func readTag(tag string) (year, month int, exact bool) {
	m := regexp.MustCompile(`(?:20)?(\d{2})[._-]?(\d{1,2})`).FindStringSubmatch(tag)
	if m == nil {
		return 0, 0, false
	}
	year, _ = strconv.Atoi(m[1])
	month, _ = strconv.Atoi(m[2])
	return year, month, tag == m[1]+"."+m[2] && len(m[2]) == 2
}

// nearest is the tag of the release that is the fewest months away; without a year, of the newest.
func nearest(rows []Release, year, month int) string {
	if year == 0 {
		newest, _ := Newest(Host{})
		return newest.Tag
	}
	best, distance := "", 0
	for _, r := range rows {
		y, m, _ := readTag(r.Tag)
		d := (y-year)*12 + m - min(max(month, 1), 12)
		d = max(d, -d)
		if best == "" || d < distance {
			best, distance = r.Tag, d
		}
	}
	return best
}
