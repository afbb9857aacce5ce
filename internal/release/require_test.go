package release_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
)

// Values of NVIDIA_REQUIRE_CUDA are as NVIDIA's CUDA images have them.
func TestDriverRequirement(t *testing.T) {
	t.Parallel()
	const cuda128 = "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=grid,driver>=470,driver<471 brand=tesla,driver>=535,driver<536 "
	tests := map[string]struct {
		require, driver, cuda string
		kinds                 []release.Kind
		text                  string
	}{
		"the image says nothing":       {"", "535.183.01", "12.2", nil, ""},
		"NVIDIA's release images":      {"cuda>=9.0", "535.183.01", "12.2", nil, ""},
		"as new as it asks":            {cuda128, "570.86.10", "12.8", nil, ""},
		"newer":                        {cuda128, "580.159.04", "13.0", nil, ""},
		"CUDA of the driver not known": {cuda128, "550.54.14", "", nil, ""},
		"no clause for this branch": {
			cuda128, "550.54.14", "12.4",
			[]release.Kind{release.Requirement},
			"its server image asks for a driver with cuda>=12.8 (NVIDIA_REQUIRE_CUDA), and the host's has CUDA 12.4: container runtimes that check it refuse to start it",
		},
		"a brand of this branch": {cuda128, "535.183.01", "12.2", []release.Kind{release.NotConfirmed}, "starts it on some brands of GPUs alone"},
		"the branch alone":       {"cuda>=12.8 driver>=535,driver<536", "535.183.01", "12.2", nil, ""},
		"an architecture":        {"cuda>=12.8 arch>=8.9", "535.183.01", "12.2", nil, ""},
		"another architecture":   {"cuda>=12.8,arch<8.9", "570.86.10", "12.8", []release.Kind{release.Requirement}, "cuda>=12.8,arch<8.9"},
		"driver not known":       {"cuda>=12.8 driver>=535", "", "12.2", []release.Kind{release.NotConfirmed}, ""},
		"all operators":          {"cuda>12.1,cuda<12.3,cuda<=12.2,cuda!=12.0,cuda=12.2", "535.183.01", "12.2", nil, ""},
		"not understood":         {"cuda=>12.8 cuda>=x nonsense", "535.183.01", "12.2", []release.Kind{release.NotConfirmed}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := release.Find("25.03")
			if err != nil {
				t.Fatal(err)
			}
			h := release.Host{Driver: tt.driver, CUDA: tt.cuda, Compute: []string{"8.9"}, DataCenter: true}
			env := map[string]string{"NVIDIA_REQUIRE_CUDA": tt.require}
			reasons := r.Conflicts(release.Image{}, release.Image{Env: env}, h, "")
			if diff := cmp.Diff(tt.kinds, kindsOf(reasons)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(reasons) > 0 && !strings.Contains(reasons[0].Text, tt.text) {
				t.Errorf("%q does not say %q", reasons[0].Text, tt.text)
			}
			env["NVIDIA_DISABLE_REQUIRE"] = "1"
			if reasons := r.Conflicts(release.Image{}, release.Image{Env: env}, h, ""); len(reasons) > 0 {
				t.Errorf("switched off by the image: %v", reasons)
			}
		})
	}
}

// An exporter image is asked where it works on the GPU.
func TestDriverRequirementOfExporter(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "550.54.14", CUDA: "12.4", Compute: []string{"8.9"}}
	exporter := release.Image{Env: map[string]string{"NVIDIA_REQUIRE_CUDA": "cuda>=12.8"}}
	for tag, want := range map[string][]release.Kind{"21.07": {release.Requirement}, "25.03": {release.OlderBranch}} {
		r, err := release.Find(tag)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, kindsOf(r.Conflicts(exporter, release.Image{}, h, ""))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tag, diff)
		}
	}
}
