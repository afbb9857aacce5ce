package docker

import (
	"strings"
	"testing"
)

// An image is known by the digest that it was asked for, else by that of its own repository.
func TestDigestOf(t *testing.T) {
	t.Parallel()
	one, two := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	digests := []string{"other.example/x@" + two, "registry.example:5000/team/x@" + one, "registry.example:5000/team/x@" + two, "debian@" + one}
	for ref, want := range map[string]string{
		"registry.example:5000/team/x:v1":     one,
		"registry.example:5000/team/x@" + two: two,
		"debian@" + one:                       one,
		"debian:bookworm":                     one,
		"sha256:" + strings.Repeat("3", 64):   two,
	} {
		if got := digestOf(ref, digests); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
	if got := digestOf("made.here/x:1", nil); got != "" {
		t.Errorf("what was made here has %s", got)
	}
}
