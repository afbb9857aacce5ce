package release_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
)

func TestTableIsSound(t *testing.T) {
	t.Parallel()
	rows := release.All()
	if rows[0].Tag != "21.07" || rows[len(rows)-1].Tag != "26.11" {
		t.Errorf("the table goes from %s to %s", rows[0].Tag, rows[len(rows)-1].Tag)
	}
	tag := regexp.MustCompile(`^2[1-9]\.(0[1-9]|1[0-2])$`)
	before := release.Release{}
	atLeast := map[string]release.Version{} // the newest of each figure so far
	for _, r := range rows {
		if !tag.MatchString(r.Tag) || r.Tag <= before.Tag {
			t.Errorf("tag %q after %q", r.Tag, before.Tag)
		}
		for _, s := range slices.Concat([]string{r.MinCompute}, r.DataCenterDrivers) {
			version(t, s)
		}
		for _, s := range []string{r.TensorRT, r.CUDA, r.Triton, r.DALI, r.ORT} {
			if s != "" {
				version(t, s)
			}
		}
		if r.Unconfirmed&r.Indirect != 0 {
			t.Errorf("%s has figures that are confirmed indirectly and not at all", r.Tag)
		}
		for figure, value := range map[release.Figures]string{release.TensorRT: r.TensorRT, release.CUDA: r.CUDA} {
			if value == "" && !r.Unconfirmed.Contains(figure) {
				t.Errorf("%s lacks a figure, and says it is confirmed", r.Tag)
			}
		}
		if r.MinDriver == 0 || r.EngineIn == "" || r.DALIIn == "" || r.DALIInterpreter == "" {
			t.Errorf("%s is incomplete: %+v", r.Tag, r)
		}
		// By minor version of TensorRT and major of CUDA; Triton's numbers have no gap.
		for figure, v := range map[string]release.Version{
			"TensorRT": {Major: r.TensorRTVersion().Major, Minor: r.TensorRTVersion().Minor}, "CUDA": {Major: known(t, r.CUDA).Major},
			"driver": {Major: r.MinDriver}, "compute": version(t, r.MinCompute), "Triton": known(t, r.Triton),
		} {
			if v.IsZero() {
				continue
			}
			if v.Compare(atLeast[figure]) < 0 {
				t.Errorf("%s has less %s than one before it: what is unconfirmed is bounded by its neighbors", r.Tag, figure)
			}
			atLeast[figure] = v
		}
		before = r
	}
}

// known is zero for a figure that is not known.
func known(t *testing.T, text string) release.Version {
	t.Helper()
	if text == "" {
		return release.Version{}
	}
	return version(t, text)
}

// Figures by their sources, each as strong as that is.
func TestFigures(t *testing.T) {
	t.Parallel()
	r4xx, r5xx := []string{"418.40", "440.33", "450.51", "460.27"}, []string{"450.51", "470.57", "510.47", "515.65"}
	const (
		weak = " (not by NVIDIA's pages on the image)"
		none = " (not confirmed)"
	)
	tests := []struct {
		tag, triton, tensorRT, cuda, dali string // as a sentence says them; empty is not asked
		notesDriver                       int
		dataCenter                        []string
	}{
		// rel_21-09 of Triton and MXNet; Triton by the numbers around it.
		{tag: "21.09", triton: "2.14" + none, tensorRT: "8.0.3", cuda: "11.4.2", dali: "1.5.0" + weak, notesDriver: 470, dataCenter: r4xx},
		// MXNet's rel_22-03.
		{tag: "22.03", tensorRT: "8.2.3" + weak, cuda: "11.6.1" + weak, dali: "1.11.1" + weak, notesDriver: 470},
		// MXNet's notes of the month.
		{tag: "22.05", dali: "1.13.0" + weak, notesDriver: 515},
		// rel_22-07: "11.7 Update 1 Preview".
		{tag: "22.07", tensorRT: "8.4.1" + none, cuda: "11.7.1", notesDriver: 515, dataCenter: r5xx[:3]},
		// rel-22-09.
		{tag: "22.09", tensorRT: "8.5.0" + none, cuda: "11.8.0", notesDriver: 520, dataCenter: r5xx},
		// MXNet's notes of the month; DALI_VERSION of the branch has the same.
		{tag: "22.11", dali: "1.18", notesDriver: 520, dataCenter: r5xx},
		// rel-23-06.
		{tag: "23.06", cuda: "12.1.1", notesDriver: 530, dataCenter: append(slices.Clone(r5xx), "525.85", "530.30")},
		// rel-23-09.
		{tag: "23.09", cuda: "12.2.1", notesDriver: 535, dataCenter: []string{"450.51", "470.57", "510.47", "525.85", "535.86"}},
		// DALI_VERSION of the branch; MXNet's image has 1.37.1.
		{tag: "24.05", dali: "1.36", notesDriver: 545},
		// rel-24-07, rel-24-10.
		{tag: "24.07", cuda: "12.5.1", notesDriver: 555, dataCenter: []string{"470.57", "525.85", "535.86", "545.23"}},
		{tag: "24.10", cuda: "12.6.2", notesDriver: 560, dataCenter: []string{"470.57", "525.85", "535.86", "545.23"}},
		// docs/introduction/compatibility.md of the server; of 25.02 and 25.06 it has the images with TensorRT-LLM.
		{tag: "25.01", tensorRT: "10.8.0.43"},
		{tag: "25.02", tensorRT: "10.8.0.43" + none},
		{tag: "25.06", tensorRT: "10.11.0.33" + none, cuda: "12.9"},
		// NVIDIA/Model-Optimizer #1112, of tensorrt:26.02.
		{tag: "26.02", tensorRT: "10.15.1" + weak},
		// Engines of projects that use the image.
		{tag: "26.04", tensorRT: "10.16.1" + weak},
		// DALI 2.2.0's notes fit, and do not name the image.
		{tag: "26.07", dali: "2.2.0" + none},
		// TensorRT by two projects, DALI by a third; CUDA by triton-inference-server/server #8971.
		{tag: "26.08", triton: "2.72", tensorRT: "11.2.1" + weak, cuda: "13.4" + weak, dali: "2.2.0" + weak},
		// rel-26-09 and v2.73.0 of the server; TensorRT by one project, and by the dates of TensorRT's releases.
		{tag: "26.09", triton: "2.73", tensorRT: "11.3" + weak, cuda: "13.4.1"},
		// v2.74.0 of the server; TensorRT's releases leave 11.3 and 11.4.
		{tag: "26.10", triton: "2.74", tensorRT: "11.3" + none, cuda: "13.4.3.001"},
		// v2.75.0 of the server.
		{tag: "26.11", triton: "2.75"},
	}
	for _, tt := range tests {
		r, err := release.Find(tt.tag)
		if err != nil {
			t.Fatal(err)
		}
		for figure, want := range map[release.Figures]string{release.Triton: tt.triton, release.TensorRT: tt.tensorRT, release.CUDA: tt.cuda, release.DALI: tt.dali} {
			if got := r.FigureText(figure); want != "" && got != want {
				t.Errorf("%s: %q, want %q", tt.tag, got, want)
			}
		}
		if r.NotesDriver != tt.notesDriver && tt.notesDriver != 0 || tt.dataCenter != nil && !slices.Equal(r.DataCenterDrivers, tt.dataCenter) {
			t.Errorf("%s: driver %d, %q; want %d, %q", tt.tag, r.NotesDriver, r.DataCenterDrivers, tt.notesDriver, tt.dataCenter)
		}
	}
	newest, err := release.Find("26.11")
	if err != nil || newest.TensorRT != "" || newest.CUDA != "" || newest.DALI != "" || newest.FigureText(release.TensorRT) != "" || newest.MinDriver != 580 ||
		newest.FigureText(release.MinCompute) != "7.5"+none || newest.Unconfirmed != release.TensorRT|release.CUDA|release.DALI|release.MinCompute {
		t.Errorf("of 26.11 only Triton is known: %+v, %v", newest, err)
	}
}

// Figures that are named by their sources, and what is worked where.
func TestFind(t *testing.T) {
	t.Parallel()
	const wheel = "/opt/tritonserver/backends/dali/wheel/dali"
	const conda = "/opt/tritonserver/backends/dali/conda/envs/dalienv/bin/python3"
	const server, exporter = release.ServerImage, release.ExporterImage
	tests := []struct {
		tag, tensorRT, cuda string
		minDriver           int
		compute             string
		engine, dali        release.Where
		path, python        string
	}{
		{"21.07", "8.0.1.6", "11.4.0", 470, "6.0", exporter, exporter, "", "python3"},
		{"21.08", "8.0.1.6", "11.4.1", 470, "6.0", server, exporter, "", "python3"},
		{"22.06", "8.2.5.1", "11.7.1", 470, "6.0", server, exporter, "", "python3"},
		{"22.08", "8.4.2.4", "11.7.1", 470, "6.0", server, server, "", conda},
		{"24.03", "8.6.3", "12.4", 525, "6.0", server, server, "", conda},
		{"24.04", "8.6.3", "12.4", 525, "6.0", server, exporter, "", "python3"},
		{"24.05", "10.0.1.6", "12.4.1", 525, "7.0", server, server, wheel, "python3"},
		{"25.03", "10.9.0.34", "12.8.1.012", 525, "7.5", server, server, wheel, "python3"},
		{"26.03", "10.16.0.72", "13.2.0.046", 580, "7.5", server, server, wheel, "python3"},
		{"26.07", "11.1.0.106", "13.3.1", 580, "7.5", server, server, wheel, "python3"},
	}
	for _, tt := range tests {
		r, err := release.Find(tt.tag)
		if err != nil {
			t.Fatal(err)
		}
		if r.TensorRT != tt.tensorRT || r.CUDA != tt.cuda || r.MinDriver != tt.minDriver || r.MinCompute != tt.compute ||
			r.EngineIn != tt.engine || r.DALIIn != tt.dali || r.DALIPython != tt.path || r.DALIInterpreter != tt.python {
			t.Errorf("%s is %+v, want %+v", tt.tag, r, tt)
		}
	}
}

func TestUnconfirmedIsMarked(t *testing.T) {
	t.Parallel()
	tests := map[string]release.Figures{
		"21.07": 0,
		"25.03": 0,
		"26.03": 0,
		"22.08": release.DALIPython,
		"24.06": release.TensorRT,
		"24.10": release.TensorRT | release.MinCompute,
		"26.05": release.TensorRT,
	}
	for tag, want := range tests {
		r, err := release.Find(tag)
		if err != nil || r.Unconfirmed != want {
			t.Errorf("%s: unconfirmed %b, %v; want %b", tag, r.Unconfirmed, err, want)
		}
	}
}

func TestFindUnknown(t *testing.T) {
	t.Parallel()
	for tag, minDriver := range map[string]int{"26.12": 580, "27.01": 580} {
		r, err := release.Find(tag)
		if err != nil {
			t.Fatal(err)
		}
		if r.Tag != tag || r.TensorRT != "" || r.Triton != "" || r.EngineIn != release.ServerImage || r.MinDriver != minDriver {
			t.Errorf("%s is %+v", tag, r)
		}
		if r.DALIIn != release.ServerImage || !strings.HasSuffix(r.DALIPython, "/wheel/dali") || r.MinCompute != "7.5" {
			t.Errorf("%s is %+v", tag, r)
		}
	}
}

func TestFindErrors(t *testing.T) {
	t.Parallel()
	newest, _ := release.Newest(release.Host{})
	tests := map[string]string{
		"25.3":      "did you mean 25.03?",
		"25.03-py3": "did you mean 25.03?",
		"2025.03":   "did you mean 25.03?",
		"2503":      "did you mean 25.03?",
		"v25.03":    "did you mean 25.03?",
		"25.13":     "did you mean 25.12?",
		"25.00":     "did you mean 25.01?",
		"20.99":     "did you mean 21.07?",
		"r 25.03":   "did you mean 25.03?",
		"latest":    "did you mean " + newest.Tag + "?",
		"":          "did you mean " + newest.Tag + "?",
		"20.12":     "older than 21.07",
		"21.06":     "use 21.07",
	}
	for tag, want := range tests {
		if r, err := release.Find(tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%q) = %+v, %v; want an error with %q", tag, r, err, want)
		}
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	r, err := release.Find("25.03")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"nvcr.io":                 "nvcr.io/nvidia/pytorch:25.03-py3",
		"":                        "nvcr.io/nvidia/pytorch:25.03-py3",
		"localhost:5000/mirror/":  "localhost:5000/mirror/nvidia/pytorch:25.03-py3",
		"registry.example/ai/ngc": "registry.example/ai/ngc/nvidia/pytorch:25.03-py3",
	}
	for registry, want := range tests {
		if got := r.ExporterRef(registry); got != want {
			t.Errorf("ExporterRef(%q) = %q", registry, got)
		}
		if got, want := r.ServerRef(registry), strings.Replace(want, "pytorch", "tritonserver", 1); got != want {
			t.Errorf("ServerRef(%q) = %q", registry, got)
		}
	}
}

// An unknown release under any tag works from what its image says.
func TestWithEnv(t *testing.T) {
	t.Parallel()
	r, err := release.Find("27.04")
	if err != nil {
		t.Fatal(err)
	}
	got := r.WithEnv(map[string]string{
		"PATH": "/usr/bin", "TRT_VERSION": "10.6.0.26+cuda13.0", "CUDA_VERSION": "12.6.3.004", "DALI_VERSION": "2.4.0", "TRITON_SERVER_VERSION": "",
	})
	want := r
	want.TensorRT, want.CUDA, want.DALI = "10.6.0.26", "12.6.3.004", "2.4.0"
	want.MinDriver = 525
	want.Unconfirmed = release.Triton | release.NotesDriver | release.MinCompute | release.DALIPython
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := version(t, "10.6.0.26"); got.TensorRTVersion() != want { // trtexec is spoken to in the dialect of this
		t.Errorf("its TensorRT is read as %s", got.TensorRTVersion())
	}
}

// The notes of a row are about its CUDA. An image under the row's tag with another one cannot pass by them.
func TestWithEnvOfAnotherCUDA(t *testing.T) {
	t.Parallel()
	r, err := release.Find("24.03") // CUDA 12.4; the notes allow 470.57 in data centers
	if err != nil {
		t.Fatal(err)
	}
	old := release.Host{Driver: "470.161.03", Compute: []string{"8.0"}, DataCenter: true}
	for cuda, want := range map[string][]release.Kind{
		"12.4.1.003": nil,
		"12.8.1.012": {release.DriverTooOld},
		"13.0.0.044": {release.DriverTooOld},
	} {
		with := r.WithEnv(map[string]string{"CUDA_VERSION": cuda})
		if diff := cmp.Diff(want, kindsOf(with.Check(old))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", cuda, diff)
		}
		if kept := with.NotesDriver != 0; kept != (want == nil) {
			t.Errorf("%s: driver %d of the notes", cuda, with.NotesDriver)
		}
	}
}

func kindsOf(reasons []release.Reason) []release.Kind {
	var kinds []release.Kind
	for _, reason := range reasons {
		kinds = append(kinds, reason.Kind)
	}
	return kinds
}

// An image of any name and tag is a release by what it says of itself.
func TestFromEnv(t *testing.T) {
	t.Parallel()
	const wheel = "/opt/tritonserver/backends/dali/wheel/dali"
	tests := map[string]struct {
		env        map[string]string
		tag        string
		tensorRT   string
		engine     release.Where
		dali       string
		minCompute string
		minDriver  int
	}{
		"of the table":          {map[string]string{"NVIDIA_TRITON_SERVER_VERSION": "25.03", "TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8.1"}, "25.03", "10.9.0.34", release.ServerImage, wheel, "7.5", 525},
		"of the table, patched": {map[string]string{"NVIDIA_TRITON_SERVER_VERSION": "25.03", "TRT_VERSION": "10.9.1.2"}, "25.03", "10.9.1.2", release.ServerImage, wheel, "7.5", 525},
		"the tutorial's":        {map[string]string{"NVIDIA_TRITON_SERVER_VERSION": "21.07"}, "21.07", "8.0.1.6", release.ExporterImage, "", "6.0", 470},
		"newer than the table":  {map[string]string{"NVIDIA_TRITON_SERVER_VERSION": "27.02", "TRT_VERSION": "12.0.0.1", "CUDA_VERSION": "14.0"}, "27.02", "12.0.0.1", release.ServerImage, wheel, "7.5", 580},
		"without a tag":         {map[string]string{"TRT_VERSION": "10.6.0.26", "DALI_VERSION": "2.4.0"}, "", "10.6.0.26", release.ServerImage, wheel, "7.0", 525},
		"a tag of its own":      {map[string]string{"NVIDIA_TRITON_SERVER_VERSION": "nightly", "TRT_VERSION": "11.3"}, "", "11.3", release.ServerImage, wheel, "7.5", 580},
		"nothing":               {nil, "", "", release.ServerImage, wheel, "7.5", 580},
	}
	for name, tt := range tests {
		r := release.FromEnv(tt.env)
		if r.Tag != tt.tag || r.TensorRT != tt.tensorRT || r.EngineIn != tt.engine || r.DALIPython != tt.dali || r.MinCompute != tt.minCompute || r.MinDriver != tt.minDriver {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The demands of an image without a tag are those around its TensorRT.
func TestFromEnvIsChecked(t *testing.T) {
	t.Parallel()
	r := release.FromEnv(map[string]string{"TRT_VERSION": "10.6.0.26", "CUDA_VERSION": "12.6.3"})
	for compute, want := range map[string][]release.Kind{
		"9.0": nil, "7.5": nil, "7.0": {release.NotConfirmed}, "6.1": {release.ComputeTooLow},
	} {
		var kinds []release.Kind
		for _, reason := range r.Check(release.Host{Driver: "560.35.05", Compute: []string{compute}}) {
			kinds = append(kinds, reason.Kind)
		}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("a GPU of %s (-want +got):\n%s", compute, diff)
		}
	}
}

// Which servers keep to limits of an ensemble, and that one of which nothing is known is taken for none of them.
func TestLimits(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string][2]bool{
		"": {}, "21.07": {}, "26.01": {}, "26.02": {true, false}, "26.03": {true, false}, "26.04": {true, true}, "27.01": {true, true},
	} {
		r := release.Release{Tag: tag}
		if got := [2]bool{r.LimitsQueues(), r.LimitsInflight()}; got != want {
			t.Errorf("%q: %v, want %v", tag, got, want)
		}
	}
}
