package trtexec

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// The memory that a build of ResNet50 took on an H100, by the log of TensorRT 10.6's trtexec. Other builds may need
// more: TensorRT skips kernels for which the memory does not suffice.
const (
	mib = 1 << 20

	// builderMemory is taken before the model is read: CUDA's context (526 MiB) and the library of the builder's
	// kernels (1,292 MiB).
	builderMemory = 1818 * mib
	// pictureMemory is the memory of one picture's activations in fp16: 1,053,296,128 bytes at a batch of 256, twice
	// that in fp32.
	pictureMemory = 1053296128 / 256
	// timingMemory is the memory of one picture while kernels are timed, its activations included: a peak of 1,765 MiB
	// at a batch of 256.
	timingMemory = 1765 * mib / 256
)

// GPUMemory is the memory of one GPU, in bytes. It is zero where it is not known.
type GPUMemory struct{ Free, Total int64 }

// ContextMemory returns how much of a GPU's memory an engine takes for each instance that executes it, in bytes: the
// activations of its largest batch. On the H100 a second instance of an fp16 engine for 256 pictures took 1,005 MiB.
func ContextMemory(p release.Precision, batch int) int64 { return widened(p, batch) * pictureMemory }

// widened is a number of pictures in fp16 that takes as much as batch does in a precision.
func widened(p release.Precision, batch int) int64 {
	if p == release.FP32 {
		return 2 * int64(batch) // each number is as wide as two of fp16
	}
	return int64(batch)
}

// BuildMemory returns how much of a GPU's memory the build of an engine for a batch takes, in bytes: least is what it
// cannot do without and is refused below, all is with every kernel tried. A run whose engine is stored takes none. Both
// are whole MiB, since nvidia-smi prints whole ones: an error must not print the same figure for what is free and for
// what is needed.
func BuildMemory(p release.Precision, batch int) (least, all int64) {
	pictures := widened(p, batch)
	wholeMiB := func(bytes int64) int64 { return (bytes + mib - 1) / mib * mib }
	return wholeMiB(builderMemory + pictures*pictureMemory), wholeMiB(builderMemory + pictures*timingMemory)
}

// fittingBatch is the largest batch up to most whose kernels can all be tried in the free memory, or the largest that
// can be built at all; zero if none can.
func fittingBatch(p release.Precision, free int64, most int) int {
	tried, built := 0, 0
	for batch := 1; batch <= most; batch++ {
		least, all := BuildMemory(p, batch)
		if all <= free {
			tried = batch
		}
		if least <= free {
			built = batch
		}
	}
	return cmp.Or(tried, built)
}

// CheckMemory refuses a build for batches of up to maxBatch that the GPU has no room for, before a minute is spent on
// it: a [pipeline.Fault] of kind Environment.
func CheckMemory(p release.Precision, maxBatch int, gpu GPUMemory) error {
	need, _ := BuildMemory(p, maxBatch)
	if gpu.Total == 0 || gpu.Free >= need {
		return nil
	}
	return pipeline.Faultf(pipeline.Environment, memoryHint(fittingBatch(p, gpu.Free, maxBatch-1), "fits"),
		"the GPU has too little free memory: %s of %s are free, and an engine for batches of up to %d "+
			"needs %s at least to be built",
		bytesize.Format(gpu.Free), bytesize.Format(gpu.Total), maxBatch, bytesize.Format(need))
}

// ExplainOutOfMemory makes the fault of a build that ran out of the GPU's memory an [ErrGPUMemory], and adds to it what
// there was when the build began.
func ExplainOutOfMemory(fault *pipeline.Fault, p release.Precision, maxBatch int, gpu GPUMemory) {
	if gpu.Total == 0 {
		fault.Err = gpuMemoryError{fault.Err}
		return
	}
	fault.Err = gpuMemoryError{fmt.Errorf("%w: %s of %s were free when the build began", fault.Err,
		bytesize.Format(gpu.Free), bytesize.Format(gpu.Total))}
	// The build did not fit although CheckMemory let it begin: another process took memory meanwhile, or this TensorRT
	// needs more than the measured one.
	fault.Hint = memoryHint(fittingBatch(p, gpu.Free, maxBatch/2), "may fit")
}

// ErrGPUMemory is the error for a build that ran out of GPU memory.
var ErrGPUMemory = errors.New("out of GPU memory")

// gpuMemoryError is an ErrGPUMemory with the text of another error.
type gpuMemoryError struct{ error }

func (e gpuMemoryError) Is(target error) bool { return target == ErrGPUMemory }
func (e gpuMemoryError) Unwrap() error        { return e.error }

// memoryHint says how to make the build fit. verb is "fits" or "may fit" and its subject is the batch; a batch below 1
// means that none does.
func memoryHint(batch int, verb string) string {
	const freeGPU = "stop what else uses the GPU (`nvidia-smi` lists it), or "
	if batch < 1 {
		return freeGPU + "name another one, as in --gpus device=1"
	}
	return fmt.Sprintf("%suse --max-batch %d, which %s", freeGPU, batch, verb)
}
