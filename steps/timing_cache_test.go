package steps_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// What is told of kernels that are timed anew, and of those that are not.
const (
	cold = "timing kernels, which takes a minute or more"
	warm = "timing kernels that no earlier build timed"
	load = "reading how long kernels took an earlier build"
)

// TestTimingCache checks that a build begins with what the last one on the same GPU and image measured, and with no other's.
func TestTimingCache(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.tools.TimingCache = p.store
	runs := []struct {
		name   string
		change func()
		want   string
	}{
		{"the first", func() {}, cold},
		{"another batch", func() { p.tune(32) }, warm},
		{"another precision", func() { p.target.Precision = "fp32" }, warm},
		{"another GPU", func() { p.target.Device.Name = "Tesla T4" }, cold},
		{"another image", func() {
			p.target.Device = h100
			p.fake.AddRemote(p.target.Release.ServerRef(""), p.image("another", "10.9.0.34"))
		}, cold},
		{"the first GPU again", func() {
			p.tune(16)
			p.fake.AddRemote(p.target.Release.ServerRef(""), p.image("server", "10.9.0.34"))
		}, warm},
	}
	for _, r := range runs {
		r.change()
		p.values = pipeline.Inputs{}
		before := len(p.progress())
		if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		if got := p.progress()[before:]; !slices.Contains(got, r.want) {
			t.Errorf("%s: progress %q, want %q", r.name, got, r.want)
		}
	}
}

// TestTimingCacheIsNoFact checks that what was measured changes no fingerprint.
func TestTimingCacheIsNoFact(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	before := p.facts(t, steps.IDBuildEngine)["argv"]
	p.tools.TimingCache = p.store
	if after := p.facts(t, steps.IDBuildEngine)["argv"]; before != after || !strings.Contains(after, "--timingCacheFile=/out/timing.cache") {
		t.Errorf("with a timing cache the command is %s, without %s", after, before)
	}
}

// broken is a store of timing caches that fails, after it wrote half a one.
type broken struct{}

func (broken) Load(_ context.Context, _, path string) (bool, error) {
	return false, errors.Join(os.WriteFile(path, []byte("half"), 0o600), errors.New("the disk is lost"))
}

func (broken) Forget(context.Context, string) error { return errors.New("the disk is read-only") }

func (broken) Keep(context.Context, string, string) error { return errors.New("the disk is full") }

// TestTimingCacheFailsNothing checks that a build without them is a build all the same, which never reads half a cache.
func TestTimingCacheFailsNothing(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.tools.TimingCache = broken{}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernels are timed anew: the disk is lost", "the next build times its kernels anew: the disk is full", "engine: fp16"} {
		if !w.emitted(want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if slices.Contains(w.progress(), warm) {
		t.Error("half a timing cache was read")
	}

	p := newProject(t, gpuNGC(t))
	p.tools.TimingCache = p.store
	p.instead(steps.IDBuildEngine, p.trtexec(fakeBuild{noTiming: true}))
	if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil || p.emitted("timed anew") || p.emitted("times its kernels") {
		t.Errorf("a trtexec that wrote none: %v", err)
	}
}

// unforgetting is a store of timing caches that cannot drop one.
type unforgetting struct{ steps.TimingCache }

func (unforgetting) Forget(context.Context, string) error { return errors.New("the disk is read-only") }

// TestTimingCacheCannotBeForgotten checks that it is said when what may be why a build failed stays for the next one.
func TestTimingCacheCannotBeForgotten(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.tools.TimingCache = unforgetting{p.store}
	if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	p.instead(steps.IDBuildEngine, prints(1, "[E] TimingCache creation failed"))
	wantFault(t, p.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
	if !p.emitted("the times of kernels that this build began with cannot be forgotten: the disk is read-only") {
		t.Error("nobody is told")
	}
}

// TestTimingCacheOfFailedProof checks that nothing is kept of the build of an engine that is refused.
func TestTimingCacheOfFailedProof(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]fakeBuild{"precision": {fp32: true}, "TensorRT": {version: "10.3.0.26"}, "cut": {cut: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.tools.TimingCache = p.store
			p.instead(steps.IDBuildEngine, p.trtexec(build))
			wantFault(t, p.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			p.instead(steps.IDBuildEngine, nil)
			if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(p.progress(), warm) {
				t.Errorf("progress %q", p.progress())
			}
		})
	}
}

// TestTimingCacheOfFailedBuild checks that a build which fails with the times of an earlier one is not the first of many: not unless it
// was interrupted.
func TestTimingCacheOfFailedBuild(t *testing.T) {
	t.Parallel()
	errStopped := errors.New("interrupted")
	for name, tt := range map[string]struct {
		fails func(*testing.T, *project) error
		next  string
	}{
		"TensorRT cannot read them": {func(t *testing.T, p *project) error {
			t.Helper()
			p.instead(steps.IDBuildEngine, prints(1, "[I] [TRT] Loaded 6 bytes of timing cache from /out/timing.cache", "[E] TimingCache creation failed"))
			return p.run(t, t.Context(), steps.IDBuildEngine)
		}, cold},
		"the engine is refused": {func(t *testing.T, p *project) error {
			t.Helper()
			p.instead(steps.IDBuildEngine, p.trtexec(fakeBuild{fp32: true}))
			return p.run(t, t.Context(), steps.IDBuildEngine)
		}, cold},
		"the GPU's memory is full": {func(t *testing.T, p *project) error {
			t.Helper()
			p.instead(steps.IDBuildEngine, prints(1, "Cuda failure: out of memory"))
			return p.run(t, t.Context(), steps.IDBuildEngine)
		}, warm},
		"the disk is full": {func(t *testing.T, p *project) error {
			t.Helper()
			p.instead(steps.IDBuildEngine, prints(1, "[E] Saving engine to file failed.", "write /out/model.plan: No space left on device"))
			return p.run(t, t.Context(), steps.IDBuildEngine)
		}, warm},
		"interrupted": {func(t *testing.T, p *project) error {
			t.Helper()
			begun := make(chan struct{})
			p.instead(steps.IDBuildEngine, hangs(begun))
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-begun
				cancel(errStopped)
			}()
			return p.run(t, ctx, steps.IDBuildEngine)
		}, warm},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.tools.TimingCache = p.store
			build := func() {
				p.instead(steps.IDBuildEngine, nil)
				if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
					t.Fatal(err)
				}
			}
			build()
			if err := tt.fails(t, p); err == nil {
				t.Fatal("it was built")
			}
			if warned := p.emitted("the next build times its kernels anew, in case"); warned != (tt.next == cold) {
				t.Errorf("warned: %t", warned)
			}
			if p.emitted("cannot be forgotten") {
				t.Error("it could not be forgotten")
			}
			before := len(p.progress())
			build()
			if got := p.progress()[before:]; !slices.Contains(got, tt.next) {
				t.Errorf("progress %q, want %q", got, tt.next)
			}
		})
	}
}

// TestTimingCacheWithoutEntries checks that a timing cache in which TensorRT put nothing is not kept: the next build would be said to have one.
func TestTimingCacheWithoutEntries(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.tools.TimingCache = p.store
	p.instead(steps.IDBuildEngine, p.trtexec(fakeBuild{entries: "0"}))
	for range 2 {
		before := len(p.progress())
		if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
			t.Fatal(err)
		}
		if got := p.progress()[before:]; !slices.Contains(got, cold) || slices.Contains(got, load) {
			t.Errorf("progress %q", got)
		}
	}
	if p.emitted("timed anew") || p.emitted("times its kernels") {
		t.Error("it warns of it")
	}
}
