package pipeline_test

import (
	"testing"

	"github.com/dalirun/dalirun/pipeline"
)

// Programs read the words of a kind: they never change.
func TestKindsArePinned(t *testing.T) {
	t.Parallel()
	for kind, want := range map[pipeline.Kind]string{
		pipeline.Unclassified: "unclassified", pipeline.Usage: "usage", pipeline.Environment: "environment",
		pipeline.ContainerFailed: "container", pipeline.NotReady: "not ready", pipeline.NotVerified: "not verified",
		pipeline.GateFailed: "gate", pipeline.Kind(99): "unclassified",
	} {
		if got := kind.String(); got != want {
			t.Errorf("%d is %q, want %q", kind, got, want)
		}
	}
}
