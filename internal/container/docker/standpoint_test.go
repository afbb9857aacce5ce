package docker

import (
	"testing"

	dcontainer "github.com/docker/docker/api/types/container"
)

// The mounts of a container in another one's network name that one. Nothing tells which of the two a process is in.
func TestSharesNetwork(t *testing.T) {
	t.Parallel()
	row := func(mode string) (c dcontainer.Summary) {
		c.HostConfig.NetworkMode = mode
		return c
	}
	for mode, want := range map[string]bool{"default": false, "host": false, "container:a": true, "container:b": false} {
		if got := sharesNetwork([]dcontainer.Summary{row("bridge"), row(mode)}, "a"); got != want {
			t.Errorf("%s: %t", mode, got)
		}
	}
}
