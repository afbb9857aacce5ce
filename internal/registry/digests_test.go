package registry_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

// A reference is pinned by its index, and by its manifests for the platforms that dalirun runs on.
func TestPin(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	amd64, _ := s.Parts(t, server2503, "amd64")
	arm64, _ := s.Parts(t, server2503, "arm64")
	got, err := anonymous().Pin(t.Context(), s.Host()+"/"+server2503)
	want := registry.Pinned{Digest: s.Digest(t, server2503), Manifests: map[string]string{"amd64": amd64, "arm64": arm64}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}

	one := s.Push(t, "team/odd:v1", registrytest.Image{Arch: "arm64"})
	digest := s.Digest(t, "team/odd:v1")
	got, err = anonymous().Pin(t.Context(), one)
	want = registry.Pinned{Digest: digest, Manifests: map[string]string{"arm64": digest}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("without an index: %v, -want +got:\n%s", err, diff)
	}
	other := s.Push(t, "team/riscv:v1", registrytest.Image{Arch: "riscv64"})
	if got, err := anonymous().Pin(t.Context(), other); err != nil || len(got.Manifests) > 0 || got.Digest == "" {
		t.Errorf("of another platform: %+v, %v", got, err)
	}
	if _, err := anonymous().Pin(t.Context(), s.Host()+"/team/odd:v2"); kind(err) != registry.NotFound {
		t.Errorf("of no such tag: %v", err)
	}
	s.Status(http.StatusTooManyRequests)
	if _, err := anonymous().Pin(t.Context(), one); kind(err) != registry.RateLimited {
		t.Errorf("asked too often: %v", err)
	}
}

// What is deleted from a registry has a name, be it an index, a manifest, a configuration or a layer.
func TestGone(t *testing.T) {
	t.Parallel()
	const name = "team/serving:v1"
	push := func(t *testing.T) (s *registrytest.Server, ref, index, manifest string, blobs []string) {
		t.Helper()
		s = registrytest.New(t)
		s.Push(t, name, registrytest.Image{Arch: "amd64", Whole: [][]byte{[]byte("one"), []byte("two"), []byte("one")}},
			registrytest.Image{Arch: "arm64", Layers: []int64{7}})
		index = s.Digest(t, name)
		manifest, blobs = s.Parts(t, name, "amd64")
		return s, s.Host() + "/team/serving@" + index, index, manifest, blobs
	}
	s, ref, index, manifest, blobs := push(t)
	if gone, err := anonymous().Gone(t.Context(), ref, "amd64"); err != nil || len(gone) > 0 {
		t.Errorf("whole, and yet %q is gone: %v", gone, err)
	}
	if gone, err := anonymous().Gone(t.Context(), ref, "arm64"); err != nil || len(gone) != 1 {
		t.Errorf("the layer that never was: %q, %v", gone, err)
	}
	s.Delete(t, "team/serving", "blobs", blobs[1])
	s.Delete(t, "team/serving", "blobs", blobs[2])
	if gone, err := anonymous().Gone(t.Context(), ref, "amd64"); err != nil || !slices.Equal(gone, blobs[1:3]) {
		t.Errorf("two layers: %q, %v, want %q", gone, err, blobs[1:3])
	}
	s.Delete(t, "team/serving", "manifests", manifest)
	if gone, err := anonymous().Gone(t.Context(), ref, "amd64"); err != nil || !slices.Equal(gone, []string{manifest}) {
		t.Errorf("a manifest: %q, %v, want %s", gone, err, manifest)
	}
	s.Delete(t, "team/serving", "manifests", index)
	if gone, err := anonymous().Gone(t.Context(), ref, "amd64"); err != nil || !slices.Equal(gone, []string{index}) {
		t.Errorf("the index: %q, %v, want %s", gone, err, index)
	}
	if gone, err := anonymous().Gone(t.Context(), s.Host()+"/"+strings.Replace(name, "v1", "v2", 1), "amd64"); kind(err) != registry.NotFound || gone != nil {
		t.Errorf("a tag is no digest: %q, %v", gone, err)
	}
	s.Status(http.StatusForbidden)
	if gone, err := anonymous().Gone(t.Context(), ref, "amd64"); kind(err) != registry.Forbidden || gone != nil {
		t.Errorf("nobody may look: %q, %v", gone, err)
	}
}
