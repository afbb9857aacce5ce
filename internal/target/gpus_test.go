package target

import (
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
)

// Devices are asked for by the names that the container engine has for them; all stays.
func TestAsListed(t *testing.T) {
	t.Parallel()
	const uuid, second = "GPU-b2b10123-43d8-7094-32ab-39106cb54c35", "GPU-c3c20234-43d8-7094-32ab-39106cb54c35"
	gpus := host.GPUs{Devices: []host.GPU{{Index: 0, UUID: uuid}, {Index: 1, UUID: second}}}
	indexes := container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}}
	named := container.Info{CDIDevices: []string{"nvidia.com/gpu=" + uuid, "nvidia.com/gpu=" + second, "nvidia.com/gpu=all"}}
	for name, c := range map[string]struct {
		info       container.Info
		gpus, want string
	}{
		"all":                          {indexes, "all", "all"},
		"a count":                      {indexes, "2", "device=0,1"},
		"a count where UUIDs are":      {named, "1", "device=" + uuid},
		"what goes with a count":       {named, "count=1,capabilities=utility", "device=" + uuid + ",capabilities=utility"},
		"a count, by the runtime":      {container.Info{Runtimes: []string{"nvidia"}}, "2", "2"},
		"a UUID where indexes are":     {indexes, "device=" + second, "device=1"},
		"its first letters":            {indexes, "device=GPU-c3c20234", "device=1"},
		"an index where UUIDs are":     {named, "device=1", "device=" + second},
		"two":                          {named, "device=1,0", "device=" + second + "," + uuid},
		"all where UUIDs are":          {named, "all", "all"},
		"what is not listed":           {container.Info{CDIDevices: []string{"nvidia.com/gpu=all"}}, "device=1", "device=1"},
		"Podman, which lists nothing":  {container.Info{Name: "Podman Engine"}, "device=GPU-c3c20234", "device=1"},
		"the runtime knows indexes":    {container.Info{Runtimes: []string{"nvidia"}}, "device=1", "device=1"},
		"and UUIDs, which are whole":   {container.Info{Runtimes: []string{"nvidia"}}, "device=GPU-c3c20234,0", "device=" + second + ",0"},
		"a count, by another driver":   {indexes, "count=2,driver=nvidia", "2,driver=nvidia"},
		"a UUID, by another driver":    {indexes, "device=GPU-c3c20234,driver=nvidia", "device=" + second + ",driver=nvidia"},
		"what else is said goes along": {indexes, `"device=GPU-c3c20234,0","capabilities=compute,utility"`, `"device=1,0","capabilities=compute,utility"`},
	} {
		requested := parseGPUs(t, c.gpus)
		chosen, err := gpus.Select(requested)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := asListed(c.info, requested, chosen); got.String() != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// One instance of a GPU that is split is called by its address.
func TestAsListedInstance(t *testing.T) {
	t.Parallel()
	info := container.Info{CDIDevices: []string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=all"}}
	gpus, err := host.FromCDI(info.CDIDevices)
	if err != nil {
		t.Fatal(err)
	}
	requested := container.GPUs{Count: 1}
	chosen, err := gpus.Select(requested)
	if got := asListed(info, requested, chosen); err != nil || got.String() != "device=0:0" {
		t.Errorf("%s, %v", got, err)
	}
}

// The GPUs of a container engine on another host are its own: this host's nvidia-smi is not asked.
func TestRemoteGPUs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info container.Info
		gpus string
		want []int
	}{
		"CDI":                     {container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}}, "all", []int{0, 1}},
		"nvidia runtime":          {container.Info{Runtimes: []string{"nvidia"}}, "all", []int{0}},
		"nvidia runtime, a GPU":   {container.Info{Runtimes: []string{"nvidia"}}, "device=3", []int{3}},
		"nvidia runtime, by UUID": {container.Info{Runtimes: []string{"nvidia"}}, "device=GPU-aaaabbbb", []int{0}},
		"nothing":                 {container.Info{Runtimes: []string{"runc"}}, "all", nil},
	} {
		c.info.Remote, c.info.Endpoint = true, "tcp://gpus:2376"
		requested := parseGPUs(t, c.gpus)
		gpus, err := remoteGPUs(c.info, requested)
		if c.want == nil {
			if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "on another host") {
				t.Errorf("%s: %+v, %v", name, gpus, err)
			}
			continue
		}
		chosen, selectErr := gpus.Select(requested)
		if err := errors.Join(err, selectErr); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []int
		for _, g := range chosen {
			got = append(got, g.Index)
		}
		if len(got) != len(c.want) || got[0] != c.want[0] {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if says := nameGPUs(gpus, chosen); !strings.Contains(says, "driver not known from here") {
			t.Errorf("%s: %q", name, says)
		}
		// An engine for a GPU that is not known is for no other container engine's.
		if d := device(c.info, gpus, chosen); d.Name != "" || !strings.HasSuffix(d.Location, " at tcp://gpus:2376") || d.Driver != "" || len(c.want) == 2 && !strings.HasPrefix(d.Location, "GPU 0, 1 ") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func parseGPUs(t *testing.T, text string) container.GPUs {
	t.Helper()
	gpus, err := container.ParseGPUs(text)
	if err != nil {
		t.Fatal(err)
	}
	return gpus
}
