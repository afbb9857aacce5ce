package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/dalirun/dalirun/pipeline"
)

// A timing cache is what trtexec measured of kernels on the way to an engine, kept from build to build: 78 s become 10. No fault of one is
// a fault of the build, which measures again.

// timingName is what a timing cache is good for: one device, TensorRT and CUDA, as the image holds them
// (https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/builder-performance.html). The UUID of the GPU, which TensorRT notes in it as
// well, is no part: trtexec lets it take the cache of another GPU of the model (ignoreMismatch in its samples/common/timingCache.cpp), and an
// older one that does not times anew and says so.
func (s *BuildEngine) timingName(w *pipeline.Work) string {
	return fmt.Sprintf("%s, compute capability %s, image %s", s.options.Device.key(), s.options.Device.Compute, w.Input(s.image).Digest)
}

// loadTimings puts the times of earlier builds where trtexec looks for them, and says whether there are any.
func (s *BuildEngine) loadTimings(ctx context.Context, w *pipeline.Work) bool {
	if s.machine.Timings == nil {
		return false
	}
	loaded, err := s.machine.Timings.Load(ctx, s.timingName(w), w.Path(timingFile))
	if err != nil && ctx.Err() == nil {
		_ = os.Remove(w.Path(timingFile)) // half a cache is none
		w.Emit(pipeline.Warning{Text: "kernels are timed anew: " + err.Error()})
	}
	return loaded && err == nil
}

// keepTimings is for the build of an engine that was proven.
func (s *BuildEngine) keepTimings(ctx context.Context, w *pipeline.Work) {
	if s.machine.Timings == nil {
		return
	}
	err := s.machine.Timings.Keep(ctx, s.timingName(w), w.Path(timingFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil { // a trtexec that wrote none has said so
		w.Emit(pipeline.Warning{Text: "the next build times its kernels anew: " + err.Error()})
	}
}

// blamesTimings says whether a build may have failed for what it was begun with. Neither the host nor its GPU's memory is of that.
func (s *BuildEngine) blamesTimings(err error) bool {
	fault, ok := errors.AsType[*pipeline.Fault](err)
	return ok && fault.Kind == pipeline.ContainerFailed && !errors.Is(err, errGPUMemory)
}

// forgetTimings is for a build that failed with the times of an earlier one: one that TensorRT cannot take can be why, and would be
// why each time.
func (s *BuildEngine) forgetTimings(ctx context.Context, w *pipeline.Work) {
	if ctx.Err() != nil {
		return // it was interrupted
	}
	text := "the next build times its kernels anew, in case their times from an earlier one are why this one failed"
	if err := s.machine.Timings.Forget(ctx, s.timingName(w)); err != nil {
		text = "the times of kernels that this build began with cannot be forgotten: " + err.Error()
	}
	w.Emit(pipeline.Warning{Text: text})
}
