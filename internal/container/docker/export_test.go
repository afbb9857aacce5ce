package docker

import (
	"context"
	"slices"
	"testing"

	dnetwork "github.com/docker/docker/api/types/network"
)

// Endpoint returns where the engine is expected, for tests that ask it beside the Runtime.
func (r *Runtime) Endpoint() string { return r.endpoint }

// Ways returns the names of the ways of Dial.
func Ways() []string {
	var names []string
	for _, w := range ways() {
		names = append(names, w.name)
	}
	return names
}

// DialOnly leaves one way to Dial, and makes this process one of the engine's default network.
func (r *Runtime) DialOnly(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	r.ways = slices.DeleteFunc(ways(), func(w *way) bool { return w.name != name })
	if _, err := r.requestFacts(ctx); err != nil {
		t.Fatal(err)
	}
	bridge, err := r.api.NetworkInspect(ctx, "bridge", dnetwork.InspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.lastFacts.networks = []string{bridge.ID, "podman"} // of a container's network, Podman 4.3 tells the name in place of the ID
}
