package steps

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// An error of a timing cache is a warning and does not fail the build, which can measure again.

func (s *BuildEngine) timingCacheKey(w *pipeline.Work) string {
	return trtexec.TimingCacheKey(s.requestedGPU(), w.Input(s.image).Digest)
}

// loadTimingCache copies the timing cache of earlier builds to the file that trtexec reads, and reports whether there
// is one.
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

// keepTimingCache stores the timing cache of a build whose engine was proven.
func (s *BuildEngine) keepTimingCache(ctx context.Context, w *pipeline.Work) {
	if s.timingCache == nil {
		return
	}
	err := s.timingCache.Keep(ctx, s.timingCacheKey(w), w.Path(timingCacheFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil { // trtexec itself reports that it wrote none
		w.Emit(pipeline.Warning{Text: "the next build times its kernels anew: " + err.Error()})
	}
}

// suspectsTimingCache reports whether the timing cache that a build began with may be why it failed: not where the host
// or the GPU's memory is why.
func suspectsTimingCache(err error) bool {
	fault, ok := errors.AsType[*pipeline.Fault](err)
	return ok && fault.Kind == pipeline.ContainerFailed && !errors.Is(err, trtexec.ErrGPUMemory)
}

// forgetTimingCache drops the timing cache that a failed build began with: a timing cache that TensorRT cannot read may
// be why it failed, and would fail each build.
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
