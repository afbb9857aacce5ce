package containertest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
)

// listed returns the image of an ID as ListImages has it.
func (s *suite) listed(t *testing.T, id string) (container.Image, bool) {
	t.Helper()
	all, err := s.Images.ListImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(img container.Image) bool { return img.ID == id })
	if i < 0 {
		return container.Image{}, false
	}
	return all[i], true
}

func testListImages(t *testing.T, s *suite) {
	t.Helper()
	want, err := s.Images.Resolve(t.Context(), s.Image)
	if err != nil {
		t.Fatal(err)
	}
	got, found := s.listed(t, want.ID)
	if !found || !slices.ContainsFunc(got.Tags, func(tag string) bool { return strings.HasSuffix(tag, s.Image) }) ||
		got.Created.IsZero() {
		t.Errorf("listed %t: %+v", found, got)
	}
}

// build makes an image of the suite's, with the name of the test in it so that no other has the same ID.
func (s *suite) build(t *testing.T, tag string) container.Image {
	t.Helper()
	img, err := s.Builder.Build(t.Context(), container.BuildSpec{
		Tag:        tag,
		Dockerfile: []byte("ARG BASE\nFROM $BASE\nCOPY data.txt /data.txt\n"),
		Files:      map[string][]byte{"data.txt": []byte(t.Name())},
		Args:       map[string]string{"BASE": s.Image},
		Labels:     container.Labels{container.LabelBuild: t.Name()},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Both names of an image go with it, what it was built from stays, and to remove it once more is no error.
func testRemoveImage(t *testing.T, s *suite) {
	t.Helper()
	one, two := s.Image+"-one", s.Image+"-two"
	img := s.build(t, one)
	if again := s.build(t, two); again.ID != img.ID { // the fake has an ID for each name
		if err := s.Images.RemoveImage(t.Context(), again.ID); err != nil {
			t.Error(err)
		}
	}
	if got, found := s.listed(t, img.ID); !found || got.Labels[container.LabelBuild] != t.Name() {
		t.Errorf("listed %t: %+v", found, got)
	}
	for range 2 {
		if err := s.Images.RemoveImage(t.Context(), img.ID); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{one, two, img.ID} {
		if _, err := s.Images.Resolve(t.Context(), ref); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("%s is still there: %v", ref, err)
		}
	}
	if _, err := s.Images.Resolve(t.Context(), s.Image); err != nil {
		t.Error(err)
	}
}

// An image of which there is a container stays with all its names, also when the container has ended.
func testUsedImage(t *testing.T, s *suite) {
	t.Helper()
	one, two := s.Image+"-used", s.Image+"-used-too"
	img := s.build(t, one)
	s.build(t, two)
	spec := s.spec("exit", "0")
	spec.Image = one
	c, _ := s.start(t, spec)
	s.wait(t, c)
	if err := s.Images.RemoveImage(t.Context(), img.ID); !errors.Is(err, container.ErrInUse) {
		t.Errorf("got %v", err)
	}
	for _, ref := range []string{one, two} {
		if _, err := s.Images.Resolve(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
		t.Fatal(err)
	}
	if err := s.Images.RemoveImage(t.Context(), img.ID); err != nil {
		t.Error(err)
	}
}
