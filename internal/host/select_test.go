package host_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
)

func TestSelect(t *testing.T) {
	t.Parallel()
	alike := host.GPUs{Devices: []host.GPU{
		{Index: 0, UUID: "GPU-aaaa1111", Name: "H100", Compute: "9.0"},
		{Index: 1, UUID: "GPU-bbbb2222", Name: "H100", Compute: "9.0"},
	}}
	mixed := host.GPUs{Devices: []host.GPU{
		{Index: 0, UUID: "GPU-aaaa1111", Name: "H100", Compute: "9.0"},
		{Index: 1, UUID: "GPU-cccc3333", Name: "T4", Compute: "7.5"},
	}}
	one, none := host.GPUs{Devices: alike.Devices[:1]}, host.GPUs{}
	nameless := host.GPUs{Devices: []host.GPU{{Index: 0}, {Index: 1}, {Index: 2}}} // as of a container engine on another host
	for _, c := range []struct {
		gpus    string
		gpuHost host.GPUs
		want    []int
		says    string
	}{
		{"all", alike, []int{0, 1}, ""},
		{"1", alike, []int{0}, ""},
		{"count=2", alike, []int{0, 1}, ""},
		{"device=1", alike, []int{1}, ""},
		{"device=0,1", alike, []int{0, 1}, ""},
		{`"device=1,0"`, alike, []int{1, 0}, ""},
		{"device=GPU-bbbb2222", alike, []int{1}, ""},
		{`device=1,capabilities=utility`, alike, []int{1}, ""},
		{"device=1", mixed, []int{1}, ""},
		{"all", mixed, nil, "unlike GPUs"},
		{"3", alike, nil, "3 GPUs are asked for: there are GPU 0 (H100, GPU-aaaa1111) and GPU 1 (H100, GPU-bbbb2222)"},
		{"2", one, nil, "2 GPUs are asked for: there is only GPU 0 (H100, GPU-aaaa1111)"},
		{"1", none, nil, "1 GPU is asked for: there is none"},
		{"device=7", alike, nil, "there is no GPU 7: there are GPU 0 (H100, GPU-aaaa1111) and GPU 1 (H100, GPU-bbbb2222)"},
		{"device=7", one, nil, "there is no GPU 7: there is only GPU 0 (H100, GPU-aaaa1111)"},
		{"device=7", none, nil, "there is no GPU 7: there is none"},
		{"device=7", nameless, nil, "there is no GPU 7: there are GPU 0, GPU 1 and GPU 2"},
		{"all", mixed, nil, "the model that it was built on: there are GPU 0 (H100, GPU-aaaa1111) and GPU 1 (T4, GPU-cccc3333)"},
		{"device=GPU-0000", alike, nil, "there is no GPU GPU-0000"},
	} {
		t.Run(c.gpus, func(t *testing.T) {
			t.Parallel()
			got, err := c.gpuHost.Select(parseGPUs(t, c.gpus))
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want an error that says %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var indexes []int
			for _, d := range got {
				indexes = append(indexes, d.Index)
			}
			if diff := cmp.Diff(c.want, indexes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Nobody who asks for no GPU is given one.
func TestSelectNone(t *testing.T) {
	t.Parallel()
	got, err := host.GPUs{Devices: []host.GPU{{}}}.Select(container.GPUs{})
	if err == nil || err.Error() != "no GPU is asked for" {
		t.Errorf("%+v, %v", got, err)
	}
}

// parseGPUs reads a value of --gpus.
func parseGPUs(t *testing.T, gpus string) container.GPUs {
	t.Helper()
	parsed, err := container.ParseGPUs(gpus)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
