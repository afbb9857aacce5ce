package release_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/release"
)

func TestNewest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		host release.Host
		want string
	}{
		"no GPU":                           {release.Host{}, "26.09"},
		"H100":                             {release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}, "26.09"},
		"newer driver":                     {release.Host{Driver: "610.43.02", Compute: []string{"12.0"}}, "26.09"},
		"driver not known":                 {release.Host{Compute: []string{"8.6"}}, "26.09"},
		"driver not readable":              {release.Host{Driver: "[N/A]", Compute: []string{"8.6"}}, "26.09"},
		"compute not readable":             {release.Host{Driver: "580.10", Compute: []string{"[N/A]"}}, "26.09"},
		"CUDA 12 only":                     {release.Host{Driver: "575.57.08", Compute: []string{"8.9"}}, "25.03"},
		"first of CUDA 12":                 {release.Host{Driver: "525.60.13", Compute: []string{"8.0"}}, "25.03"},
		"last of CUDA 11":                  {release.Host{Driver: "520.61.05", Compute: []string{"8.0"}}, "22.11"},
		"Volta: 24.06 on is not confirmed": {release.Host{Driver: "580.10", Compute: []string{"7.0"}}, "24.05"},
		"Pascal":                           {release.Host{Driver: "580.10", Compute: []string{"6.1"}}, "24.02"},
		"weakest of two decides":           {release.Host{Driver: "580.10", Compute: []string{"9.0", "6.1"}}, "24.02"},
		"Maxwell":                          {release.Host{Driver: "580.10", Compute: []string{"5.2"}}, ""},
		"driver too old for all":           {release.Host{Driver: "390.157", Compute: []string{"7.5"}}, ""},
		"450 on a desktop":                 {release.Host{Driver: "450.80.02", Compute: []string{"7.5"}}, ""},
		"450 in a data center":             {release.Host{Driver: "450.80.02", Compute: []string{"7.5"}, DataCenter: true}, "22.11"},
		"470 in a data center":             {release.Host{Driver: "470.161.03", Compute: []string{"8.0"}, DataCenter: true}, "22.11"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, reasons := release.Newest(tt.host)
			if got.Tag != tt.want {
				t.Fatalf("got %q, want %q", got.Tag, tt.want)
			}
			checkOneReasonPerNewer(t, got.Tag, reasons)
		})
	}
}

// A release is nobody's default before a source says which TensorRT and Triton it holds. Naming it works.
func TestNewestIsConfirmed(t *testing.T) {
	t.Parallel()
	h := release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}
	newest, reasons := release.Newest(h)
	if newest.Triton == "" || newest.TensorRT == "" || newest.Unconfirmed&(release.TensorRT|release.Triton) != 0 {
		t.Errorf("%s is the default, and of its figures %b are not confirmed", newest.Tag, newest.Unconfirmed)
	}
	want := []release.Reason{
		{Tag: "26.11", Kind: release.NotConfirmed, Text: "its CUDA is not confirmed, and the releases around it do not settle it"},
		{Tag: "26.11", Kind: release.NotConfirmed, Text: "its minimum compute capability is not confirmed, and the releases around it do not settle it"},
		{Tag: "26.10", Kind: release.NotConfirmed, Text: "its TensorRT is not confirmed"},
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// 24.02 fits by the release after it alone, and not once its image says that its CUDA is 12.3.
	h470 := release.Host{Driver: "470.161.03", Compute: []string{"8.0"}, DataCenter: true}
	_, reasons = release.Newest(h470)
	if i := slices.IndexFunc(reasons, func(r release.Reason) bool { return r.Tag == "24.02" }); i < 0 || reasons[i].Text != "its CUDA is not confirmed" {
		t.Errorf("reasons %v", reasons)
	}
	for _, reason := range want {
		r, err := release.Find(reason.Tag)
		if err != nil {
			t.Fatal(err)
		}
		if against := r.Check(h); slices.ContainsFunc(against, func(r release.Reason) bool { return !r.Kind.IsDoubt() }) {
			t.Errorf("%s, named: %v", r.Tag, against)
		}
	}
}

// checkOneReasonPerNewer: every release newer than the chosen one is accounted for, newest first, each in a sentence.
func checkOneReasonPerNewer(t *testing.T, chosen string, reasons []release.Reason) {
	t.Helper()
	var want []string
	for _, r := range slices.Backward(release.All()) {
		if r.Tag <= chosen {
			break
		}
		want = append(want, r.Tag)
	}
	var got []string
	for _, r := range reasons {
		got = append(got, r.Tag)
		if !strings.HasPrefix(r.Text, "it") || strings.HasSuffix(r.Text, ".") || r.Kind == "" || r.Kind == release.OlderBranch {
			t.Errorf("reason %+v", r)
		}
	}
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("reasons for %v, want them for %v", got, want)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tag string
		host      release.Host
		kinds     []release.Kind
		text      string
	}{
		{"fits", "25.03", release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}, nil, ""},
		{"no GPU, nothing to demand", "25.03", release.Host{}, nil, ""},
		{"TensorRT alone excludes nothing", "26.05", release.Host{Driver: "580.10", Compute: []string{"9.0"}}, nil, ""},
		{"driver", "25.10", release.Host{Driver: "575.57.08", Compute: []string{"9.0"}}, []release.Kind{release.DriverTooOld}, "its CUDA 13.0.2 needs driver 580 or newer, and the host has 575.57.08"},
		{"compute", "25.03", release.Host{Driver: "580.10", Compute: []string{"9.0", "7.0"}}, []release.Kind{release.ComputeTooLow}, "compute capability 7.5 or higher, and the host has a GPU of 7.0"},
		{"compute not confirmed", "24.10", release.Host{Driver: "580.10", Compute: []string{"7.0"}}, []release.Kind{release.NotConfirmed}, "minimum compute capability is not confirmed"},
		{"compute not confirmed, but lower than the last confirmed", "24.10", release.Host{Driver: "580.10", Compute: []string{"6.1"}}, []release.Kind{release.ComputeTooLow}, "7.0 (not confirmed) or higher"},
		{"compute not confirmed, but the next is met", "24.10", release.Host{Driver: "580.10", Compute: []string{"7.5"}}, nil, ""},
		{"driver, by the releases before alone", "23.02", release.Host{Driver: "390.10", Compute: []string{"7.5"}}, []release.Kind{release.DriverTooOld}, "its CUDA 12.0 (not confirmed) needs driver 525 or newer"},
		{"driver, CUDA by others", "26.08", release.Host{Driver: "570.10", Compute: []string{"7.5"}}, []release.Kind{release.DriverTooOld}, "its CUDA 13.4 (not by NVIDIA's pages on the image) needs driver 580 or newer"},
		{"driver, CUDA not known", "26.11", release.Host{Driver: "570.10", Compute: []string{"7.5"}}, []release.Kind{release.DriverTooOld, release.NotConfirmed}, "its CUDA needs driver 580 or newer, and the host has 570.10"},
		{"CUDA 11 or 12 is not confirmed", "23.02", release.Host{Driver: "510.10", Compute: []string{"7.5"}}, []release.Kind{release.NotConfirmed}, "its CUDA is not confirmed"},
		{"older branch", "25.03", release.Host{Driver: "535.183.01", Compute: []string{"8.6"}}, []release.Kind{release.OlderBranch}, "ask for driver 560 or newer; 535.183.01 runs it in CUDA's minor version compatibility mode"},
		{"compute not known", "25.03", release.Host{Driver: "470.161.03", Compute: []string{""}, DataCenter: true}, []release.Kind{release.DriverTooOld, release.ComputeUnknown}, "it needs compute capability 7.5 or higher, and that of the GPU is not known"},
		{"compute of one not known", "25.03", release.Host{Driver: "580.10", Compute: []string{"9.0", "[N/A]"}}, []release.Kind{release.ComputeUnknown}, "is not known"},
		{"GPU newer than its CUDA", "21.07", release.Host{Driver: "580.10", Compute: []string{"8.6", "9.0"}}, []release.Kind{release.NewerGPU}, "its CUDA 11.4.0 is older than GPUs of compute capability 9.0, which came with CUDA 11.8"},
		{"GPU newer than its CUDA 12", "24.05", release.Host{Driver: "580.10", Compute: []string{"12.0"}}, []release.Kind{release.NewerGPU}, "which came with CUDA 12.8"},
		{"GPU that its CUDA knows", "25.01", release.Host{Driver: "580.10", Compute: []string{"12.0"}}, nil, ""},
		{"all at once", "26.07", release.Host{Driver: "470.10", Compute: []string{"6.1"}}, []release.Kind{release.DriverTooOld, release.ComputeTooLow}, ""},
		{"not in the table, later", "27.01", release.Host{Driver: "580.10", Compute: []string{"9.0"}}, []release.Kind{release.NotConfirmed, release.NotConfirmed}, "its CUDA is not confirmed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := release.Find(tt.tag)
			if err != nil {
				t.Fatal(err)
			}
			reasons := r.Check(tt.host)
			var kinds []release.Kind
			var text strings.Builder
			for _, reason := range reasons {
				kinds = append(kinds, reason.Kind)
				text.WriteString(reason.Text + "\n")
				if reason.Tag != tt.tag {
					t.Errorf("reason of %s in the check of %s", reason.Tag, tt.tag)
				}
			}
			if !slices.Equal(kinds, tt.kinds) || !strings.Contains(text.String(), tt.text) {
				t.Errorf("got %v:\n%s\nwant %v with %q", kinds, text.String(), tt.kinds, tt.text)
			}
		})
	}
}

// What the image says settles what the table does not.
func TestCheckAfterEnvironment(t *testing.T) {
	t.Parallel()
	host := release.Host{Driver: "520.61.05", Compute: []string{"8.0"}}
	r, err := release.Find("23.01")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Check(host); len(got) != 1 || got[0].Kind != release.NotConfirmed {
		t.Errorf("by the table alone: %v", got)
	}
	if got := r.WithEnv(map[string]string{"CUDA_VERSION": "11.8.0.065"}).Check(host); len(got) != 0 {
		t.Errorf("CUDA 11.8: %v", got)
	}
	got := r.WithEnv(map[string]string{"CUDA_VERSION": "12.0.1.015"}).Check(host)
	if len(got) != 1 || got[0].Kind != release.DriverTooOld || !strings.Contains(got[0].Text, "its CUDA 12.0.1.015 needs driver 525") {
		t.Errorf("CUDA 12: %v", got)
	}
}
