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
	if rows[0].Tag != "21.07" || rows[len(rows)-1].Tag != "26.10" {
		t.Errorf("the table goes from %s to %s", rows[0].Tag, rows[len(rows)-1].Tag)
	}
	tag := regexp.MustCompile(`^2[1-9]\.(0[1-9]|1[0-2])$`)
	before := release.Release{}
	for _, r := range rows {
		if !tag.MatchString(r.Tag) || r.Tag <= before.Tag {
			t.Errorf("tag %q after %q", r.Tag, before.Tag)
		}
		for _, s := range slices.Concat([]string{r.TensorRT, r.CUDA, r.MinCompute}, r.DataCenterDrivers) {
			version(t, s)
		}
		for _, s := range []string{r.Triton, r.DALI, r.ORT} {
			if s != "" {
				version(t, s)
			}
		}
		if r.MinDriver == 0 || r.EngineIn == "" || r.DALIIn == "" || r.DALIInterpreter == "" {
			t.Errorf("%s is incomplete: %+v", r.Tag, r)
		}
		was := before.TensorRTVersion()
		if before.Tag != "" && (r.TensorRTVersion().Compare(release.Version{Major: was.Major, Minor: was.Minor}) < 0 || r.MinDriver < before.MinDriver ||
			version(t, r.CUDA).Major < version(t, before.CUDA).Major || version(t, r.MinCompute).Compare(version(t, before.MinCompute)) < 0) {
			t.Errorf("%s demands less than %s before it: what is unconfirmed is bounded by its neighbors", r.Tag, before.Tag)
		}
		before = r
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
	for tag, minDriver := range map[string]int{"26.11": 580, "27.01": 580, "26.09": 580, "21.09": 470} {
		r, err := release.Find(tag)
		if err != nil {
			t.Fatal(err)
		}
		if r.Tag != tag || r.TensorRT != "" || r.Triton != "" || r.EngineIn != release.ServerImage || r.MinDriver != minDriver {
			t.Errorf("%s is %+v", tag, r)
		}
		if tag > "26" && (r.DALIIn != release.ServerImage || !strings.HasSuffix(r.DALIPython, "/wheel/dali") || r.MinCompute != "7.5") {
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
	if _, err := release.Trtexec(got.TensorRTVersion(), build()); err != nil {
		t.Error(err)
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
