package trtexec_test

import (
	"testing"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// A second instance of an fp16 engine for 256 pictures took 1,005 MiB of an H100; numbers of fp32 are twice as wide.
func TestContextMemory(t *testing.T) {
	t.Parallel()
	const seen = 1005 << 20
	half, whole := trtexec.ContextMemory(release.FP16, 256), trtexec.ContextMemory(release.FP32, 256)
	if half > seen*101/100 || half < seen*99/100 || whole != 2*half || trtexec.ContextMemory(release.FP16, 64) != half/4 {
		t.Errorf("%d bytes in fp16, %d in fp32", half, whole)
	}
}
