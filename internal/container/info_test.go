package container

import "testing"

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
