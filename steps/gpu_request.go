package steps

import (
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
)

// gpuRequest are the GPUs that a container is to see. It is zero for a container without any.
type gpuRequest struct {
	container.GPUs

	uuids []string // of the GPUs, or their MIG instances; nil if not known
}

func newGPURequest(t target.Target) gpuRequest {
	if t.Lane != target.GPU {
		return gpuRequest{}
	}
	return gpuRequest{t.GPUs, t.GPUUUIDs}
}
