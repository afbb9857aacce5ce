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
	docker := container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=0:1", "nvidia.com/gpu=GPU-1", "nvidia.com/gpu=all"}}
	podman := container.Info{Name: container.PodmanEngine}
	runtime := container.Info{CDIDevices: docker.CDIDevices, Runtimes: []string{container.NVIDIARuntime}}
	for name, c := range map[string]struct {
		info    container.Info
		gpus    container.GPUs
		devices []string
		missing string
	}{
		"all":                   {docker, container.GPUs{Count: container.AllGPUs}, []string{"nvidia.com/gpu=all"}, ""},
		"a count":               {docker, container.GPUs{Count: 1}, []string{"nvidia.com/gpu=0"}, ""},
		"more than are listed":  {docker, container.GPUs{Count: 3}, nil, "nvidia.com/gpu=1"},
		"names":                 {docker, container.GPUs{Devices: []string{"GPU-1", "0:1"}}, []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0:1"}, ""},
		"a whole name":          {docker, container.GPUs{Devices: []string{"nvidia.com/gpu=0"}}, []string{"nvidia.com/gpu=0"}, ""},
		"one of another kind":   {docker, container.GPUs{Devices: []string{"amd.com/gpu=0"}}, nil, "amd.com/gpu=0"},
		"none":                  {docker, container.GPUs{}, nil, ""},
		"a name that is not":    {docker, container.GPUs{Devices: []string{"0", "7"}}, nil, "nvidia.com/gpu=7"},
		"of one that says none": {podman, container.GPUs{Devices: []string{"7"}}, []string{"nvidia.com/gpu=7"}, ""},
		"its driver":            {docker, container.GPUs{Count: 1, Driver: "cdi"}, []string{"nvidia.com/gpu=0"}, ""},
		"another driver":        {docker, container.GPUs{Count: 1, Driver: "nvidia"}, nil, ""},
		"which Podman lacks":    {podman, container.GPUs{Count: 1, Driver: "nvidia"}, []string{"nvidia.com/gpu=0"}, ""},
		"the nvidia runtime":    {runtime, container.GPUs{Devices: []string{"7"}}, nil, ""},
		"no way by CDI":         {container.Info{}, container.GPUs{Count: 1}, nil, ""},
	} {
		devices, missing := cdi.Request(c.gpus, c.info)
		if diff := cmp.Diff(c.devices, devices); diff != "" || missing != c.missing {
			t.Errorf("%s: %q is missing, want %q (-want +got):\n%s", name, missing, c.missing, diff)
		}
	}
}

func TestByDevice(t *testing.T) {
	t.Parallel()
	listed := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}
	for name, c := range map[string]struct {
		driver string
		info   container.Info
		want   bool
	}{
		"nothing":                    {"", container.Info{Name: "Docker Engine", Runtimes: []string{"runc"}}, false},
		"devices":                    {"", container.Info{CDIDevices: listed, Runtimes: []string{"runc"}}, true},
		"devices by their driver":    {"cdi", container.Info{CDIDevices: listed}, true},
		"devices by another driver":  {"nvidia", container.Info{CDIDevices: listed}, false},
		"devices and the runtime":    {"", container.Info{CDIDevices: listed, Runtimes: []string{"nvidia", "runc"}}, false},
		"Podman, which lists none":   {"", container.Info{Name: container.PodmanEngine}, true},
		"Podman by another driver":   {"nvidia", container.Info{Name: container.PodmanEngine}, true},
		"Podman and a runtime of it": {"", container.Info{Name: container.PodmanEngine, Runtimes: []string{"nvidia"}}, true},
	} {
		if got := cdi.ByDevice(container.GPUs{Count: 1, Driver: c.driver}, c.info); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
