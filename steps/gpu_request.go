package steps

import "github.com/dalirun/dalirun/internal/container"

// gpuRequest are the GPUs that a container is to see. It is zero for a container without any.
type gpuRequest struct {
	container.GPUs

	uuids []string // of the GPUs, or their MIG instances; nil if not known
}

func newGPURequest(o Options) gpuRequest {
	if o.Lane != GPU {
		return gpuRequest{}
	}
	return gpuRequest{o.GPUs, o.GPUUUIDs}
}
