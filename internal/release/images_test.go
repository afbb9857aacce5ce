package release_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
)

func TestConflicts(t *testing.T) {
	t.Parallel()
	type env = map[string]string
	h100 := release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}
	a100 := release.Host{Driver: "580.159.04", Compute: []string{"8.0"}}
	tests := map[string]struct {
		tag              string
		exporter, server release.Image
		host             release.Host
		kinds            []release.Kind
		text             string
	}{
		"nothing is known": {"25.03", release.Image{}, release.Image{}, h100, nil, ""},
		"they fit": {
			"25.03",
			release.Image{Arch: "amd64", Env: env{"TRT_VERSION": "10.9.0.34", "DALI_VERSION": "1.44.0"}},
			release.Image{Arch: "amd64", Env: env{"TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8.1.012", "CUDA_ARCH_LIST": "7.5 8.0 8.6 9.0 10.0 12.0 "}},
			h100, nil, "",
		},
		"built where it is served, so the exporter's TensorRT is nobody's concern": {
			"25.03", release.Image{Env: env{"TRT_VERSION": "10.8"}}, release.Image{Env: env{"TRT_VERSION": "10.9.0.34"}}, h100, nil, "",
		},
		"built by another TensorRT": {
			"21.07",
			release.Image{Env: env{"TRT_VERSION": "8.0.1.6"}},
			release.Image{Env: env{"TRT_VERSION": "8.0.3.4"}},
			a100,
			[]release.Kind{release.TensorRTDiffers},
			"TensorRT 8.0.1.6 of its exporter image would build an engine that TensorRT 8.0.3.4 of its server image cannot load",
		},
		"built by the same, said in other ways": {
			"21.07", release.Image{Env: env{"TRT_VERSION": "8.0.1"}}, release.Image{Env: env{"TRT_VERSION": "8.0.1.6+cuda11.3"}}, a100, nil, "",
		},
		"one of them says nothing": {"21.07", release.Image{Env: env{}}, release.Image{Env: env{"TRT_VERSION": "8.0.3.4"}}, a100, nil, ""},
		"no engine on a CPU": {
			"21.07", release.Image{Env: env{"TRT_VERSION": "8.0.1.6"}}, release.Image{Env: env{"TRT_VERSION": "8.0.3.4", "CUDA_VERSION": "99.0"}}, release.Host{}, nil, "",
		},
		"serialized by a newer DALI": {
			"24.04",
			release.Image{Env: env{"DALI_VERSION": "1.37.0"}},
			release.Image{Env: env{"DALI_VERSION": "1.36.0"}},
			release.Host{},
			[]release.Kind{release.DALINewer},
			"DALI 1.37 of its exporter image would serialize for DALI 1.36",
		},
		"serialized by an older DALI":   {"24.04", release.Image{Env: env{"DALI_VERSION": "1.35"}}, release.Image{Env: env{"DALI_VERSION": "1.36.0"}}, h100, nil, ""},
		"serialized where it is served": {"25.03", release.Image{Env: env{"DALI_VERSION": "2.0"}}, release.Image{Env: env{"DALI_VERSION": "1.44.0"}}, h100, nil, ""},
		"another architecture": {
			"25.03",
			release.Image{Arch: "arm64"},
			release.Image{Arch: "arm64"},
			release.Host{},
			[]release.Kind{release.OtherArch, release.OtherArch},
			"its server image is for arm64, and the container engine runs amd64",
		},
		"CUDA is newer than the driver": {
			"25.03",
			release.Image{},
			release.Image{Env: env{"CUDA_VERSION": "13.1.0.036"}},
			release.Host{Driver: "570.124.06", Compute: []string{"9.0"}},
			[]release.Kind{release.DriverTooOld},
			"its CUDA 13.1.0.036 needs driver 580 or newer, and the host has 570.124.06",
		},
		"CUDA of the image that builds is newer than the driver": {
			"21.07",
			release.Image{Env: env{"CUDA_VERSION": "12.1"}},
			release.Image{},
			release.Host{Driver: "470.82.01", Compute: []string{"8.0"}},
			[]release.Kind{release.DriverTooOld},
			"CUDA 12.1 of its exporter image needs driver 525",
		},
		"CUDA of the image that serializes is the row's, whose notes allow the driver": {
			"24.04", release.Image{Env: env{"CUDA_VERSION": "12.4.1.003"}}, release.Image{}, release.Host{Driver: "470.161.03", Compute: []string{"8.0"}, DataCenter: true}, nil, "",
		},
		"CUDA of the image that serializes is another than the row's, whose notes allow the driver": {
			"24.04",
			release.Image{Env: env{"CUDA_VERSION": "12.8.1.012"}},
			release.Image{},
			release.Host{Driver: "470.161.03", Compute: []string{"8.0"}, DataCenter: true},
			[]release.Kind{release.DriverTooOld},
			"CUDA 12.8.1.012 of its exporter image needs driver 525",
		},
		"compute capability by the table": {
			"25.03",
			release.Image{},
			release.Image{},
			release.Host{Driver: "580.10", Compute: []string{"7.0"}},
			[]release.Kind{release.ComputeTooLow},
			"it needs compute capability 7.5",
		},
		"compute capability by the image": {
			"24.06",
			release.Image{},
			release.Image{Env: env{"CUDA_ARCH_LIST": "8.0;8.6,9.0"}},
			release.Host{Driver: "580.10", Compute: []string{"7.5"}},
			[]release.Kind{release.ComputeTooLow},
			"compiled for compute capability 8.0 or higher, and the host has a GPU of 7.5",
		},
		"a GPU that the image is too old for": {
			"25.03",
			release.Image{},
			release.Image{Env: env{"CUDA_ARCH_LIST": "7.0 8.0 9.0"}},
			release.Host{Driver: "580.10", Compute: []string{"12.0"}},
			[]release.Kind{release.NewerGPU},
			"up to 9.0, and the host has a GPU of 12.0",
		},
		"PTX for such a GPU": {
			"25.03", release.Image{}, release.Image{Env: env{"CUDA_ARCH_LIST": "7.0 8.0 9.0+PTX"}}, release.Host{Driver: "580.10", Compute: []string{"12.0"}}, nil, "",
		},
		"the same major version": {
			"24.06", release.Image{}, release.Image{Env: env{"CUDA_ARCH_LIST": "7.0 8.0 8.6"}}, release.Host{Driver: "580.10", Compute: []string{"8.9"}}, nil, "",
		},
		"a list written in another way": {
			"24.06", release.Image{}, release.Image{Env: env{"CUDA_ARCH_LIST": "80 86 90"}}, release.Host{Driver: "580.10", Compute: []string{"7.5"}}, nil, "",
		},
		"an unknown release whose image does not say its TensorRT": {
			"27.02",
			release.Image{},
			release.Image{Env: env{"CUDA_VERSION": "13.4"}},
			h100,
			[]release.Kind{release.TensorRTUnknown, release.NotConfirmed},
			"does not say which TensorRT it holds (TRT_VERSION)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := release.Find(tt.tag)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []release.Kind
			var text strings.Builder
			for _, reason := range r.Conflicts(tt.exporter, tt.server, tt.host, "amd64") {
				if reason.Kind == release.OlderBranch {
					continue
				}
				kinds = append(kinds, reason.Kind)
				text.WriteString(reason.Text + "\n")
			}
			if diff := cmp.Diff(tt.kinds, kinds); diff != "" || !strings.Contains(text.String(), tt.text) {
				t.Errorf("(-want +got):\n%s\n%s, want %q", diff, text.String(), tt.text)
			}
		})
	}
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	doubts := []release.Kind{release.NotConfirmed, release.OlderBranch, release.ComputeUnknown, release.NewerGPU}
	for _, k := range []release.Kind{
		release.DriverTooOld, release.ComputeTooLow, release.NotConfirmed, release.OlderBranch, release.OtherArch, release.TensorRTDiffers,
		release.TensorRTUnknown, release.DALINewer, release.NewerGPU, release.ComputeUnknown,
	} {
		if k.IsDoubt() != slices.Contains(doubts, k) {
			t.Errorf("%s is a doubt: %v", k, k.IsDoubt())
		}
	}
}
