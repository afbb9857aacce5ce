package trtexec

import "fmt"

// TimingCacheKey names the timing cache of a model of GPU and of the TensorRT and CUDA that the image of a digest
// holds, the three that a timing cache is valid for
// (https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/builder-performance.html).
//
// A timing cache holds the times of kernels that trtexec measured in earlier builds: with it, a build of 78 s took 10.
// TensorRT notes the GPU's UUID in it, but the key has none: trtexec lets TensorRT take the cache of another GPU of the
// model (ignoreMismatch in its samples/common/timingCache.cpp), and an older trtexec that does not take it times
// kernels anew and prints that it does.
func TimingCacheKey(gpu RequestedGPU, imageDigest string) string {
	return fmt.Sprintf("%s, compute capability %s, image %s", gpu.Name(), gpu.Compute, imageDigest)
}
