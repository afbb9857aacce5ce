package docker

import (
	"testing"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// What a container has at a path is decided by the nearest mount above it, whichever is listed first.
func TestInVolume(t *testing.T) {
	t.Parallel()
	mounts := []dcontainer.MountPoint{
		{Type: mount.TypeBind, Destination: "/models/shared"},
		{Type: mount.TypeVolume, Destination: "/models"},
		{Type: mount.TypeBind, Destination: "/"},
	}
	for inside, want := range map[string]bool{
		"/models/dali": true, "/models/dali/1/": true, "/models": true, "/models/shared/a": false, "/models/shared": false,
		"/modelsandmore/a": false, "/in": false,
	} {
		if got := inVolume(mounts, inside); got != want {
			t.Errorf("%s: %t", inside, got)
		}
	}
	if inVolume(nil, "/models") {
		t.Error("without a mount there is no volume")
	}
}
