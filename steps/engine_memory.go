package steps

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// What a build of ResNet50 took of an H100's memory, TensorRT 10.6 (trtexec's own log). It is the lesser part of what others may need:
// TensorRT passes over kernels that the memory does not let it try.
const (
	mib = 1 << 20

	// builderMemory is taken before the model is read: CUDA's context (526 MiB) and the library of the builder's kernels (1,292 MiB).
	builderMemory = 1818 * mib
	// pictureMemory is that of one picture's activations in fp16: 1,053,296,128 bytes at a batch of 256, twice that in fp32.
	pictureMemory = 1053296128 / 256
	// timingMemory is that of one picture while kernels are timed, activations among it: a peak of 1,765 MiB at a batch of 256.
	timingMemory = 1765 * mib / 256
)

// EngineMemory returns how much of a GPU's memory the build of an engine for a batch takes, in bytes: least is what it cannot do
// without and is refused below, all is with every kernel tried. A run whose engine is stored takes none. Both are whole MiB, since nvidia-smi
// tells whole ones: what is too little must not read like what is needed.
func EngineMemory(p release.Precision, batch int) (least, all int64) {
	pictures := int64(batch)
	if p == release.FP32 {
		pictures *= 2 // each number is as wide as two of fp16
	}
	wholeMiB := func(bytes int64) int64 { return (bytes + mib - 1) / mib * mib }
	return wholeMiB(builderMemory + pictures*pictureMemory), wholeMiB(builderMemory + pictures*timingMemory)
}

// fittingBatch is the largest batch up to most whose kernels can all be tried in the free memory, or the largest that can be built at all;
// zero if none can.
func fittingBatch(p release.Precision, free int64, most int) int {
	tried, built := 0, 0
	for batch := 1; batch <= most; batch++ {
		least, all := EngineMemory(p, batch)
		if all <= free {
			tried = batch
		}
		if least <= free {
			built = batch
		}
	}
	return cmp.Or(tried, built)
}

// memory asks for the GPU's memory. Where the host does not tell it, it is zero.
func (s *BuildEngine) memory(ctx context.Context, w *pipeline.Work) (GPUMemory, error) {
	if s.machine.GPUMemory == nil {
		return GPUMemory{}, nil
	}
	have, err := s.machine.GPUMemory(ctx)
	if ctx.Err() != nil {
		return GPUMemory{}, context.Cause(ctx)
	}
	if err != nil {
		w.Emit(pipeline.Warning{Text: "the GPU's free memory is not known: " + err.Error()})
		have = GPUMemory{}
	}
	return have, nil
}

// checkMemory refuses a build that the GPU has no room for, before a minute is spent on it.
func (s *BuildEngine) checkMemory(have GPUMemory) error {
	o := s.options
	need, _ := EngineMemory(o.Precision, o.MaxBatch)
	if have.Total == 0 || have.Free >= need {
		return nil
	}
	return pipeline.Faultf(pipeline.Environment, memoryHint(fittingBatch(o.Precision, have.Free, o.MaxBatch-1), "fits"),
		"the GPU has too little free memory: %s of %s are free, and an engine for batches of up to %d needs %s at least to be built",
		bytesize.Format(have.Free), bytesize.Format(have.Total), o.MaxBatch, bytesize.Format(need))
}

// outOfMemory adds to the fault of a build that ran out of the GPU's memory what there was when it began.
func (s *BuildEngine) outOfMemory(fault *pipeline.Fault, have GPUMemory) {
	o := s.options
	if have.Total == 0 {
		fault.Err = gpuMemoryError{fault.Err}
		return
	}
	fault.Err = gpuMemoryError{fmt.Errorf("%w: %s of %s were free when the build began", fault.Err, bytesize.Format(have.Free), bytesize.Format(have.Total))}
	// It did not fit: another process came, or this TensorRT needs more than the one that was measured.
	fault.Hint = memoryHint(fittingBatch(o.Precision, have.Free, o.MaxBatch/2), "may fit")
}

// errGPUMemory is of a build that ran out of GPU memory.
var errGPUMemory = errors.New("out of GPU memory")

// gpuMemoryError is an error that is an errGPUMemory, in its own words.
type gpuMemoryError struct{ error }

func (e gpuMemoryError) Is(target error) bool { return target == errGPUMemory }
func (e gpuMemoryError) Unwrap() error        { return e.error }

// memoryHint says what to do, with a batch that does what verb says.
func memoryHint(batch int, verb string) string {
	const others = "stop what else uses the GPU (`nvidia-smi` lists it), or "
	if batch < 1 {
		return others + "name another one, as in --gpus device=1"
	}
	return fmt.Sprintf("%suse --max-batch %d, which %s", others, batch, verb)
}
