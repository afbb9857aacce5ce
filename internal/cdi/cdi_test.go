package cdi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cdi"
	"github.com/dalirun/dalirun/internal/container"
)

func TestName(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]string{
		"nvidia.com/gpu=0": "0", "nvidia.com/gpu=0:1": "0:1", "nvidia.com/gpu=GPU-1": "GPU-1", "nvidia.com/gpu=all": "all",
		"nvidia.com/gpu": "", "nvidia.com/gpu=": "", "nvidia.com/mig=0": "", "amd.com/gpu=0": "", "a/b=0": "", "=0": "", "0": "", "": "", "/dev/nvidia0": "",
	} {
		if name, ok := cdi.Name(device); ok != (want != "") || ok && name != want {
			t.Errorf("%q: %q, %t", device, name, ok)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	docker := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=0:1", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=all"}
	for name, c := range map[string]struct {
		listed  []string
		gpus    container.GPUs
		ids     []string
		missing string
	}{
		"all":                   {docker, container.GPUs{Count: container.AllGPUs}, []string{"nvidia.com/gpu=all"}, ""},
		"a count":               {docker, container.GPUs{Count: 1}, []string{"nvidia.com/gpu=0"}, ""},
		"more than are listed":  {docker, container.GPUs{Count: 3}, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=2"}, "nvidia.com/gpu=1"},
		"names":                 {docker, container.GPUs{Devices: []string{"GPU-1", "0:1"}}, []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0:1"}, ""},
		"a whole name":          {docker, container.GPUs{Devices: []string{"nvidia.com/gpu=0"}}, []string{"nvidia.com/gpu=0"}, ""},
		"one of another kind":   {docker, container.GPUs{Devices: []string{"amd.com/gpu=0"}}, []string{"amd.com/gpu=0"}, "amd.com/gpu=0"},
		"none":                  {docker, container.GPUs{}, nil, ""},
		"a name that is not":    {docker, container.GPUs{Devices: []string{"0", "7"}}, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=7"}, "nvidia.com/gpu=7"},
		"of one that says none": {nil, container.GPUs{Devices: []string{"7"}}, []string{"nvidia.com/gpu=7"}, ""},
	} {
		ids, missing := cdi.Request(c.gpus, c.listed)
		if diff := cmp.Diff(c.ids, ids); diff != "" || missing != c.missing {
			t.Errorf("%s: %q is missing, want %q (-want +got):\n%s", name, missing, c.missing, diff)
		}
	}
}
