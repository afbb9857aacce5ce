package steps_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// What is told of kernels that are timed anew, and of those that are not.
const (
	cold = "timing kernels, which takes a minute or more"
	warm = "timing kernels that no earlier build timed"
	load = "reading how long kernels took an earlier build"
)

// TestTimings checks that a build begins with what the last one on the same GPU and image measured, and with no other's.
func TestTimings(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.machine.TimingCache = p.store
	runs := []struct {
		name   string
		change func()
		want   string
	}{
		{"the first", func() {}, cold},
		{"another batch", func() { p.options.OptBatch = 32 }, warm},
		{"another precision", func() { p.options.Precision = "fp32" }, warm},
		{"another GPU", func() { p.options.Device.Name = "Tesla T4" }, cold},
		{"another image", func() {
			p.options.Device = h100
			p.fake.AddRemote(p.options.Release.ServerRef(""), p.image("another", "10.9.0.34"))
		}, cold},
		{"the first GPU again", func() {
			p.options.OptBatch = 16
			p.fake.AddRemote(p.options.Release.ServerRef(""), p.image("server", "10.9.0.34"))
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

// TestTimingsAreNoFact checks that what was measured changes no fingerprint.
func TestTimingsAreNoFact(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	before := p.facts(t, steps.IDBuildEngine)["argv"]
	p.machine.TimingCache = p.store
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

// TestTimingsFailNothing checks that a build without them is a build all the same, which never reads half a cache.
func TestTimingsFailNothing(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.machine.TimingCache = broken{}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernels are timed anew: the disk is lost", "the next build times its kernels anew: the disk is full", "engine: fp16"} {
		if !w.said(want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if slices.Contains(w.progress(), warm) {
		t.Error("half a timing cache was read")
	}

	p := newProject(t, gpuNGC(t))
	p.machine.TimingCache = p.store
	p.instead(steps.IDBuildEngine, p.trtexec(fakeBuild{noTiming: true}))
	if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil || p.said("timed anew") || p.said("times its kernels") {
		t.Errorf("a trtexec that wrote none: %v", err)
	}
}

// TestTimingsOfFailedProof checks that nothing is kept of the build of an engine that is refused.
func TestTimingsOfFailedProof(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]fakeBuild{"precision": {fp32: true}, "TensorRT": {version: "10.3.0.26"}, "cut": {cut: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.machine.TimingCache = p.store
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

// TestTimingsOfFailedBuild checks that a build which fails with the times of an earlier one is not the first of many: not unless it
// was interrupted.
func TestTimingsOfFailedBuild(t *testing.T) {
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
			p.machine.TimingCache = p.store
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
			if told := p.said("the next build times its kernels anew, in case"); told != (tt.next == cold) {
				t.Errorf("told of: %t", told)
			}
			if p.said("cannot be forgotten") {
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

// TestTimingsAreNotTaken checks that nobody is told of times which TensorRT read and does not use.
func TestTimingsAreNotTaken(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"4: Timing cache header mismatch:Incoming ITimingCache: UUID = GPU-e95b6d5c-6b23-2af9-45f9-3df237cfd30f, commit = 9a73423585f0fcfc", // TensorRT 8.6
		"4: The timing cache will not be used!",                      // TensorRT 8.6, NVIDIA/TensorRT#3566
		"Detected invalid timing cache, setup a local cache instead", // TensorRT 8.0, NVIDIA/TensorRT#1413
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, gpuNGC(t))
			p.machine.TimingCache = p.store
			if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			before := len(p.progress())
			p.instead(steps.IDBuildEngine, p.trtexec(fakeBuild{cache: line}))
			if err := p.run(t, t.Context(), steps.IDBuildEngine); err != nil {
				t.Fatal(err)
			}
			if got := p.progress()[before:]; !slices.Contains(got, cold) || slices.Contains(got, warm) {
				t.Errorf("progress %q", got)
			}
		})
	}
}

// TestTimingsAreOfAnEarlierBuild checks that times of an earlier build are told of only where TensorRT read some.
func TestTimingsAreOfAnEarlierBuild(t *testing.T) {
	t.Parallel()
	const global = "[I] [TRT] Global timing cache in use. Profiling results in this builder pass will be stored."
	for name, tt := range map[string]struct {
		lines []string
		want  []string
	}{
		"a TensorRT that says nothing of a file": {[]string{global}, []string{cold}},
		"no file":                                {[]string{"[W] [TRT] Could not read timing cache from: /out/timing.cache. A new timing cache will be generated and written.", global}, []string{cold}},
		"an empty file":                          {[]string{"[I] [TRT] Loaded 0 bytes of timing cache from /out/timing.cache", global}, []string{cold}},
		"a file that is not taken":               {[]string{"[I] [TRT] Loaded 890550 bytes of timing cache from /out/timing.cache", "[E] [TRT] The timing cache will not be used!", global}, []string{load, cold}},
		"times of this or another shape":         {[]string{"[I] [TRT] Loaded 890550 bytes of timing cache from /out/timing.cache", global}, []string{load, warm}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.make(t, steps.IDBuildEngine)
			before := len(w.progress())
			w.instead(steps.IDBuildEngine, prints(1, append(tt.lines, "[E] it ends here")...))
			wantFault(t, w.run(t, t.Context(), steps.IDBuildEngine), pipeline.ContainerFailed)
			if diff := cmp.Diff(tt.want, w.progress()[before:]); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTimingsWithoutEntries checks that a timing cache in which TensorRT put nothing is not kept: the next build would be said to have one.
func TestTimingsWithoutEntries(t *testing.T) {
	t.Parallel()
	p := newProject(t, gpuNGC(t))
	p.machine.TimingCache = p.store
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
	if p.said("timed anew") || p.said("times its kernels") {
		t.Error("it warns of it")
	}
}

// TestCast checks the cast for a TensorRT that needs it: what runs where, what the engine is built from, and what is told if it fails.
func TestCast(t *testing.T) {
	t.Parallel()
	w := tensorRT11(t)
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	for _, spec := range w.fake.Specs() {
		switch pipeline.ID(spec.Step) {
		case steps.IDCastONNX:
			if spec.Image != w.options.Release.ExporterRef("") || spec.GPUs != "" {
				t.Errorf("it is cast in %s with the GPUs %q", spec.Image, spec.GPUs)
			}
		case steps.IDBuildEngine:
			host, _, err := containertest.HostPath(spec, "/in/model.onnx")
			if err != nil || host != filepath.Join(w.dir, "cast-onnx", "model.onnx") || slices.Contains(spec.Command, "--fp16") {
				t.Errorf("the engine is built from %s, %v, by %v", host, err, spec.Command)
			}
		}
	}
	facts := w.facts(t, steps.IDCastONNX)
	for _, name := range []string{"argv", "cast_onnx.py", "program.py"} {
		if facts[name] == "" {
			t.Errorf("%s is no fact: %v", name, facts)
		}
	}
	const reason = "this image cannot cast to fp16: it has no AutoCast"
	w.instead(steps.IDCastONNX, prints(2, "error: "+reason))
	if f := fault(t, w.run(t, t.Context(), steps.IDCastONNX), pipeline.ContainerFailed); f.Error() != "cast_onnx.py: "+reason {
		t.Errorf("got %q", f)
	}
	w.wantNoContainer(t)
}

// TestCastIsListed checks that the step is there where the release's TensorRT needs it, and nowhere else.
func TestCastIsListed(t *testing.T) {
	t.Parallel()
	listed := func(w *world) bool {
		return slices.ContainsFunc(w.list(steps.IDVerify), func(s pipeline.Step) bool { return s.ID() == steps.IDCastONNX })
	}
	tests := map[string]struct {
		change func(*world)
		want   bool
	}{
		"TensorRT 11":         {func(*world) {}, true},
		"TensorRT 11, fp32":   {func(w *world) { w.options.Precision = "fp32" }, false},
		"TensorRT 10.16":      {func(w *world) { w.options.Release.TensorRT = "10.16.1.11" }, false},
		"newer than is known": {func(w *world) { w.options.Release.TensorRT = "12.0" }, true},
		"not known":           {func(w *world) { w.options.Release.TensorRT = "" }, false},
		"cpu lane":            {func(w *world) { w.options.Lane = steps.CPU }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tensorRT11(t)
			tt.change(w)
			if got := listed(w); got != tt.want {
				t.Errorf("it is listed: %t", got)
			}
		})
	}
	// The image overrules the table: an older TensorRT builds what was cast with its own flag.
	w := tensorRT11(t)
	w.fake.AddRemote(w.options.Release.ServerRef(""), w.image("server", "10.16.1.11"))
	if argv := w.facts(t, steps.IDBuildEngine)["argv"]; !strings.Contains(argv, "--fp16") {
		t.Errorf("it is built by %s", argv)
	}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Error(err)
	}
}

// TestCastHangs checks that an interrupted cast leaves no container.
func TestCastHangs(t *testing.T) {
	t.Parallel()
	w := tensorRT11(t)
	w.make(t, steps.IDCastONNX)
	begun := make(chan struct{})
	w.instead(steps.IDCastONNX, hangs(begun))
	errStopped := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		cancel(errStopped)
	}()
	if err := w.run(t, ctx, steps.IDCastONNX); !errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
	w.wantNoContainer(t)
}
