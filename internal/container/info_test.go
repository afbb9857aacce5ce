package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestByCDI(t *testing.T) {
	t.Parallel()
	listed := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}
	for name, c := range map[string]struct {
		info Info
		want bool
	}{
		"nothing":                    {Info{Name: "Docker Engine", Runtimes: []string{"runc"}}, false},
		"devices":                    {Info{CDIDevices: listed, Runtimes: []string{"runc"}}, true},
		"devices and the runtime":    {Info{CDIDevices: listed, Runtimes: []string{"nvidia", "runc"}}, false},
		"Podman, which lists none":   {Info{Name: PodmanEngine}, true},
		"Podman and a runtime of it": {Info{Name: PodmanEngine, Runtimes: []string{"nvidia"}}, true},
	} {
		if got := c.info.ByCDI(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestCDIRequest(t *testing.T) {
	t.Parallel()
	docker := Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=0:1", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=all"}}
	for name, c := range map[string]struct {
		info    Info
		gpus    GPUs
		ids     []string
		missing string
	}{
		"all":                   {docker, GPUs{Count: AllGPUs}, []string{"nvidia.com/gpu=all"}, ""},
		"a count":               {docker, GPUs{Count: 1}, []string{"nvidia.com/gpu=0"}, ""},
		"more than are listed":  {docker, GPUs{Count: 3}, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=2"}, "nvidia.com/gpu=1"},
		"names":                 {docker, GPUs{Devices: []string{"GPU-1", "0:1"}}, []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0:1"}, ""},
		"a whole name":          {docker, GPUs{Devices: []string{"nvidia.com/gpu=0"}}, []string{"nvidia.com/gpu=0"}, ""},
		"a name that is not":    {docker, GPUs{Devices: []string{"0", "7"}}, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=7"}, "nvidia.com/gpu=7"},
		"of one that says none": {Info{Name: PodmanEngine}, GPUs{Devices: []string{"7"}}, []string{"nvidia.com/gpu=7"}, ""},
	} {
		ids, missing := c.info.CDIRequest(c.gpus)
		if diff := cmp.Diff(c.ids, ids); diff != "" || missing != c.missing {
			t.Errorf("%s: %q is missing, want %q (-want +got):\n%s", name, missing, c.missing, diff)
		}
	}
}
