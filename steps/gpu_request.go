package steps

import (
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
)

// gpuRequest names the GPUs that a container is to see. It is zero for a container without GPUs.
type gpuRequest struct {
	container.GPUs

	uuids []string // of the GPUs or MIG instances; nil if they are not known
}

func newGPURequest(t target.Target) gpuRequest {
	if t.Lane != target.GPU {
		return gpuRequest{}
	}
	return gpuRequest{t.GPUs, t.GPUUUIDs}
}
