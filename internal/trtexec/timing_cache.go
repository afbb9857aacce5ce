package trtexec

import "fmt"

// TimingCacheKey names what a timing cache is good for: one device, TensorRT and CUDA, as the image of a digest holds them
// (https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/builder-performance.html). A timing cache is what trtexec measured of kernels
// on the way to an engine, kept from build to build: 78 s become 10. The UUID of the GPU, which TensorRT notes in it as well, is no part of the key:
// trtexec lets TensorRT take the cache of another GPU of the model (ignoreMismatch in its samples/common/timingCache.cpp), and an older one that does
// not times kernels anew and prints that it does.
func TimingCacheKey(gpu AskedGPU, imageDigest string) string {
	return fmt.Sprintf("%s, compute capability %s, image %s", gpu.Name(), gpu.Compute, imageDigest)
}
