package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// No fault of a timing cache is a fault of the build, which measures again.

func (s *BuildEngine) timingCacheKey(w *pipeline.Work) string {
	return trtexec.TimingCacheKey(s.requestedGPU(), w.Input(s.image).Digest)
}

// loadTimingCache puts the timing cache of earlier builds where trtexec looks for it, and says whether there is one.
func (s *BuildEngine) loadTimingCache(ctx context.Context, w *pipeline.Work) bool {
	if s.timingCache == nil {
		return false
	}
	loaded, err := s.timingCache.Load(ctx, s.timingCacheKey(w), w.Path(timingCacheFile))
	if err != nil && ctx.Err() == nil {
		_ = os.Remove(w.Path(timingCacheFile)) // half a cache is none
		w.Emit(pipeline.Warning{Text: "kernels are timed anew: " + err.Error()})
	}
	return loaded && err == nil
}

// keepTimingCache is for the build of an engine that was proven.
func (s *BuildEngine) keepTimingCache(ctx context.Context, w *pipeline.Work) {
	if s.timingCache == nil {
		return
	}
	err := s.timingCache.Keep(ctx, s.timingCacheKey(w), w.Path(timingCacheFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil { // a trtexec that wrote none has said so
		w.Emit(pipeline.Warning{Text: "the next build times its kernels anew: " + err.Error()})
	}
}

// timingCacheMayBeWhy is whether a timing cache may be why a build failed that began with it. It is not where the host
// or its GPU's memory is why.
func timingCacheMayBeWhy(err error) bool {
	fault, ok := errors.AsType[*pipeline.Fault](err)
	return ok && fault.Kind == pipeline.ContainerFailed && !errors.Is(err, trtexec.ErrGPUMemory)
}

// forgetTimingCache is for a build that failed with the timing cache of an earlier one: one that TensorRT cannot take
// can be why, and would be why each time.
func (s *BuildEngine) forgetTimingCache(ctx context.Context, w *pipeline.Work) {
	if ctx.Err() != nil {
		return // it was interrupted
	}
	text := "the next build times its kernels anew, in case their times from an earlier one are why this one failed"
	if err := s.timingCache.Forget(ctx, s.timingCacheKey(w)); err != nil {
		text = "the times of kernels that this build began with cannot be forgotten: " + err.Error()
	}
	w.Emit(pipeline.Warning{Text: text})
}
