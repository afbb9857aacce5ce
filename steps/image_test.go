package steps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func TestPull(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	ref := w.target.Release.ExporterRef("")
	if state, values := w.observe(t, steps.IDExporterImage); state.Present || values != nil || state.Reason != "there is no local image "+ref {
		t.Errorf("before: %+v, %v", state, values)
	}
	w.fake.OnPull = func(_ context.Context, _ string, onProgress func(container.Progress)) error {
		onProgress(container.Progress{Text: "downloading", Current: 3, Total: 9})
		return nil
	}
	if err := w.run(t, t.Context(), steps.IDExporterImage); err != nil {
		t.Fatal(err)
	}
	if want := (pipeline.Progress{Text: "downloading", Current: 3, Total: 9, Unit: "B"}); !slices.Contains(w.payloads, pipeline.Payload(want)) {
		t.Errorf("payloads %v lack %v", w.payloads, want)
	}
	state, values := w.observe(t, steps.IDExporterImage)
	made := w.values[w.step(steps.IDExporterImage).Outputs()[0]]
	if !state.Present || values["image"] != made || made.Ref != ref || made.Digest == "" {
		t.Errorf("after: %+v, %v; made %v", state, values, made)
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		hint string
	}{
		"denied":      {container.ErrDenied, "docker login"},
		"not found":   {container.ErrNotFound, "check the name"},
		"registry":    {container.ErrRegistry, "the network"},
		"no space":    {container.ErrNoSpace, "docker system df"},
		"any other":   {errors.New("unexpected EOF"), "the network"},
		"unreachable": {container.ErrUnreachable, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuNGC(t)
			w.fake.OnPull = func(_ context.Context, ref string, _ func(container.Progress)) error {
				return fmt.Errorf("pull %s: %w", ref, tt.err)
			}
			err := w.run(t, t.Context(), steps.IDServerImage)
			f := fault(t, err, pipeline.Environment)
			if !errors.Is(err, tt.err) || !strings.Contains(f.Hint, tt.hint) || (tt.hint == "") != (f.Hint == "") || !strings.Contains(f.Error(), "tritonserver:25.03-py3") {
				t.Errorf("got %q with the hint %q, want %q", f, f.Hint, tt.hint)
			}
			if state, values := w.observe(t, steps.IDServerImage); state.Present || values != nil {
				t.Errorf("after the failure: %+v, %v", state, values)
			}
		})
	}
}

func TestPullCancelled(t *testing.T) {
	t.Parallel()
	w := cpuNGC(t)
	errStopped := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	w.fake.OnPull = func(ctx context.Context, _ string, _ func(container.Progress)) error {
		cancel(errStopped)
		<-ctx.Done()
		return ctx.Err()
	}
	if err := w.run(t, ctx, steps.IDServerImage); !errors.Is(err, errStopped) {
		t.Errorf("got %v, want %v", err, errStopped)
	}
}

// localImage is the digest of a local image after its step ran.
func localImage(t *testing.T, w *world) string {
	t.Helper()
	if err := w.run(t, t.Context(), steps.IDServerImage); err != nil {
		t.Fatal(err)
	}
	return w.values[w.step(steps.IDServerImage).Outputs()[0]].Digest
}

// TestBuild follows a local image through its life. Its files and the packages that it got identify it, since
// each build of the same has another ID.
func TestBuild(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	if state, values := w.observe(t, steps.IDServerImage); state.Present || values != nil {
		t.Errorf("before: %+v, %v", state, values)
	}
	first := localImage(t, w)
	tag := w.fake.Builds()[0].Tag
	present := func(want bool, reason string) {
		t.Helper()
		state, values := w.observe(t, steps.IDServerImage)
		if state.Present != want || !strings.Contains(state.Reason, reason) || values["image"].Digest != first || values["image"].Ref != tag {
			t.Errorf("observed %+v, %v; want the digest %s", state, values, first)
		}
	}
	present(true, "")

	w.fake.Prune(tag)
	present(false, "there is no local image "+tag)

	if again := localImage(t, w); again != first {
		t.Errorf("built again with the same packages it is %s, not %s", again, first)
	}
	present(true, "")
	if n := len(w.fake.Builds()); n != 2 {
		t.Errorf("%d builds, want 2", n)
	}

	w.fake.Prune(tag)
	w.packages = "python3 3.12\n"
	if other := localImage(t, w); other == first {
		t.Errorf("built again with other packages it is still %s", other)
	}
	w.wantNoContainer(t)
}

// TestBrought: what a pull brings is noted by its ID; an image that was here under another name is somebody else's.
func TestBrought(t *testing.T) {
	t.Parallel()
	for name, here := range map[string]string{"a new image": "", "one of another name": "mine:1"} {
		w := cpuLocal(t)
		w.fake.Prune("debian:bookworm-slim")
		base := containertest.Image{Image: container.Image{ID: "sha256:base"}}
		if here != "" {
			base.Tags = []string{here}
			w.fake.AddLocal(here, base)
		}
		w.fake.AddRemote("debian:bookworm-slim", base)
		localImage(t, w)
		ref, brought := steps.Brought(w.kv, "sha256:base")
		if brought != (here == "") || brought && ref != "debian:bookworm-slim" {
			t.Errorf("%s: brought %t by %q", name, brought, ref)
		}
		built, err := w.fake.Resolve(t.Context(), w.fake.Builds()[0].Tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, brought := steps.Brought(w.kv, built.ID); brought {
			t.Errorf("%s: what was built was brought", name)
		}
		if refs := steps.ImageRefs(w.target, steps.Tools{}); !slices.Contains(refs, built.Tags[0]) || !slices.Contains(refs, "debian:bookworm-slim") {
			t.Errorf("%s: a run has to do with %q", name, refs)
		}
	}
}

// TestPackagesAreNotRead checks that an image whose packages nobody has read, since a run was killed or the memory is of
// another machine, is read and not built.
func TestPackagesAreNotRead(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	first := localImage(t, w)
	w.kv.values = nil
	if state, values := w.observe(t, steps.IDServerImage); state.Present || values != nil || !strings.Contains(state.Reason, "package versions") {
		t.Errorf("observed %+v, %v", state, values)
	}
	if again := localImage(t, w); again != first || len(w.fake.Builds()) != 1 {
		t.Errorf("it is %s after %d builds, want %s after 1", again, len(w.fake.Builds()), first)
	}
}

func TestPackagesCannotBeRead(t *testing.T) {
	t.Parallel()
	tests := map[string]containertest.Program{
		"no list":    prints(1, "cat: /usr/share/dalirun/packages: No such file or directory"),
		"empty list": prints(0),
	}
	for name, program := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			w.instead(steps.IDServerImage, program)
			f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
			if !strings.Contains(f.Error(), "does not say which packages it holds") || !strings.Contains(f.Hint, "remove the image") {
				t.Errorf("got %q with the hint %q", f, f.Hint)
			}
			w.wantNoContainer(t)
		})
	}
}

// What runs containers and builds no images has no local ones, and says what it has.
func TestNoBuilder(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.tools.Builder = nil
	f := fault(t, w.run(t, t.Context(), steps.IDExporterImage), pipeline.Environment)
	if !strings.Contains(f.Error(), "builds no images") || !strings.Contains(f.Hint, "--images ngc") {
		t.Errorf("%v, hint %q", f, f.Hint)
	}
}

// TestImageBuild checks which settings make another image, and which concern only the machine that builds it.
func TestImageBuild(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*world)
		other  bool
	}{
		"nothing":      {func(*world) {}, false},
		"base":         {func(w *world) { w.target.BaseImage = "debian:12" }, true},
		"certificates": {func(w *world) { w.tools.CABundle = []byte("others") }, false},
		"proxy":        {func(w *world) { w.tools.BuildArgs = nil }, false},
		"network":      {func(w *world) { w.target.BuildNetwork = "" }, false},
		"model":        {func(w *world) { w.target.MaxBatch, w.target.Weights.Seed = 8, 9 }, false},
	}
	build := func(t *testing.T, change func(*world)) container.BuildSpec {
		t.Helper()
		w := cpuLocal(t)
		change(w)
		w.fake.AddLocal(w.target.BaseImage, containertest.Image{})
		localImage(t, w)
		return w.fake.Builds()[0]
	}
	before := build(t, tests["nothing"].change)
	if hash := before.Labels[container.LabelBuild]; before.Tag != "dalirun/server:"+hash[:12] {
		t.Errorf("the tag is %s, and the label %s", before.Tag, hash)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if after := build(t, tt.change); (after.Tag != before.Tag) != tt.other {
				t.Errorf("the tag was %s and is %s", before.Tag, after.Tag)
			}
		})
	}
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	long := make([]string, 30)
	for i := range long {
		long[i] = fmt.Sprintf("line %d", i)
	}
	tests := map[string]struct {
		prepare    func(*containertest.Fake)
		want, hint string
		tail       []string
	}{
		"no base image": {
			func(f *containertest.Fake) { f.Prune("debian:bookworm-slim") },
			"pull debian:bookworm-slim: not found", "docker import --change 'CMD [\"bash\"]' - dalirun/debian-base:bookworm`", nil,
		},
		"no registry for the base image": {
			func(f *containertest.Fake) {
				f.Prune("debian:bookworm-slim")
				f.OnPull = func(_ context.Context, ref string, _ func(container.Progress)) error {
					return fmt.Errorf("pull %s: %w", ref, container.ErrRegistry)
				}
			},
			"registry cannot be reached", "--base-image", nil,
		},
		"no space for the base image": {
			func(f *containertest.Fake) {
				f.Prune("debian:bookworm-slim")
				f.OnPull = func(context.Context, string, func(container.Progress)) error { return container.ErrNoSpace }
			},
			"no space left", "docker system df", nil,
		},
		"a command fills the disk": {
			func(f *containertest.Fake) {
				f.OnBuild = func(_ context.Context, spec container.BuildSpec, _ func(container.Progress)) (containertest.Image, error) {
					return containertest.Image{}, errors.Join(&container.BuildError{Tag: spec.Tag, Reason: "RUN returned 1", Tail: long}, container.ErrNoSpace)
				}
			},
			"RUN returned 1", "docker system df", long[15:],
		},
		"a command fails": {
			func(f *containertest.Fake) {
				f.OnBuild = func(_ context.Context, spec container.BuildSpec, _ func(container.Progress)) (containertest.Image, error) {
					return containertest.Image{}, &container.BuildError{Tag: spec.Tag, Reason: "RUN returned 100", Tail: long}
				}
			},
			"RUN returned 100", "check the network", long[15:],
		},
		"no space": {
			func(f *containertest.Fake) {
				f.OnBuild = func(context.Context, container.BuildSpec, func(container.Progress)) (containertest.Image, error) {
					return containertest.Image{}, fmt.Errorf("build: %w", container.ErrNoSpace)
				}
			},
			"no space left", "docker system df", nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuLocal(t)
			tt.prepare(w.fake)
			f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
			if !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
			}
			if diff := cmp.Diff(tt.tail, f.Tail); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
			if state, values := w.observe(t, steps.IDServerImage); state.Present || values != nil {
				t.Errorf("after the failure: %+v, %v", state, values)
			}
		})
	}
}

// TestImageTimeLimits checks that an image that takes too long is the machine's fault, and that the error says what did. The
// clock is synctest's.
func TestImageTimeLimits(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	tests := map[string]struct {
		world   func(*testing.T) *world
		prepare func(*world)
		want    string
		limit   time.Duration
	}{
		"pull": {gpuNGC, func(w *world) {
			w.fake.OnPull = func(ctx context.Context, _ string, _ func(container.Progress)) error { return hang(ctx) }
		}, "tritonserver:25.03-py3: it did not end within 2h0m0s", 2 * time.Hour},
		"build": {cpuLocal, func(w *world) {
			w.fake.OnBuild = func(ctx context.Context, _ container.BuildSpec, _ func(container.Progress)) (containertest.Image, error) {
				return containertest.Image{}, hang(ctx)
			}
		}, "it did not end within 45m0s", 45 * time.Minute},
		"base image": {cpuLocal, func(w *world) {
			w.fake.Prune("debian:bookworm-slim")
			w.fake.OnPull = func(ctx context.Context, _ string, _ func(container.Progress)) error { return hang(ctx) }
		}, "it did not end within 45m0s", 45 * time.Minute},
		"packages": {cpuLocal, func(w *world) {
			w.instead(steps.IDServerImage, hangs(make(chan struct{})))
		}, "read the package versions of dalirun/server:", time.Minute},
		"start for the packages": {cpuLocal, func(w *world) {
			w.fake.OnStart = func(ctx context.Context, _ container.Spec) error { return hang(ctx) }
		}, "read the package versions of dalirun/server:", time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := tt.world(t)
				tt.prepare(w)
				began := time.Now()
				f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
				if !strings.Contains(f.Error(), tt.want) || f.Hint == "" {
					t.Errorf("got %q with the hint %q, want %q", f, f.Hint, tt.want)
				}
				if took := time.Since(began); took != tt.limit {
					t.Errorf("it took %s", took)
				}
				w.wantNoContainer(t)
			})
		})
	}
}

// TestBuildTells checks that each line of a build and each of its steps is told of, and that a missing base is pulled.
func TestBuildTells(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.fake.Prune("debian:bookworm-slim")
	w.fake.AddRemote("debian:bookworm-slim", containertest.Image{})
	localImage(t, w)
	for _, want := range []pipeline.Payload{pipeline.Line{Text: "Step 1/1 : FROM base"}, pipeline.Line{Text: "Step 2/1 : of a program\r"}, pipeline.Progress{Text: "1/1 FROM"}} {
		if !slices.Contains(w.payloads, want) {
			t.Errorf("payloads %v lack %v", w.payloads, want)
		}
	}
	if diff := cmp.Diff([]string{"debian:bookworm-slim"}, w.fake.Pulls()); diff != "" {
		t.Errorf("pulls (-want +got):\n%s", diff)
	}
}

// TestRuntimeIsGone checks that images are not taken for absent where nobody answers.
func TestRuntimeIsGone(t *testing.T) {
	t.Parallel()
	for name, newWorld := range map[string]func(*testing.T) *world{"pull": gpuNGC, "build": cpuLocal} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tools.Images = unreachable{w.fake}
			_, _, err := w.observer(t, steps.IDServerImage).Observe(t.Context(), nil)
			wantFault(t, err, pipeline.Environment)
			if !errors.Is(err, container.ErrUnreachable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

type unreachable struct{ container.Runtime }

func (unreachable) Resolve(context.Context, string) (container.Image, error) {
	return container.Image{}, fmt.Errorf("unix:///gone.sock: %w", container.ErrUnreachable)
}

// An image that was named takes the place of the release's, and what it was is remembered.
func TestNamedImages(t *testing.T) {
	t.Parallel()
	const server, exporter = "registry.test/team/serving:prod-7", "registry.test/team/train:prod-7"
	w := gpuNGC(t)
	w.target.Images.Server.Ref, w.target.Images.Exporter.Ref = server, exporter
	if id, env, ok := steps.RecallImage(w.kv, server); ok {
		t.Errorf("remembered before: %s, %v", id, env)
	}
	env := map[string]string{"TRT_VERSION": "10.6.0.26"}
	w.fake.AddRemote(server, containertest.Image{Image: container.Image{Env: env}})
	w.fake.AddRemote(exporter, containertest.Image{})
	for _, id := range []pipeline.ID{steps.IDServerImage, steps.IDExporterImage} {
		if err := w.run(t, t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{server, exporter}, w.fake.Pulls()); diff != "" {
		t.Errorf("pulled (-want +got):\n%s", diff)
	}
	w.fake.Prune(server)
	id, got, ok := steps.RecallImage(w.kv, server)
	if made := w.values[w.step(steps.IDServerImage).Outputs()[0]]; !ok || id != made.Digest || cmp.Diff(env, got) != "" {
		t.Errorf("remembered %s, %v, %v; made %v", id, got, ok, made)
	}
}

// What identifies the server's image is what its step found, the same that its results and the server are of. Before, it is not known.
func TestServerImage(t *testing.T) {
	t.Parallel()
	for name, newWorld := range map[string]func(*testing.T) *world{"ngc": gpuNGC, "local": cpuLocal} {
		w := newWorld(t)
		if got := steps.ServerImage(w.target, w.tools); got != "" {
			t.Errorf("%s: it is %q before it was looked for", name, got)
		}
		if err := w.run(t, t.Context(), steps.IDServe); err != nil {
			t.Fatal(err)
		}
		want := w.values[pipeline.Output{Step: steps.IDServerImage, Name: "image"}].Digest
		if got := steps.ServerImage(w.target, w.tools); got != want || want == "" {
			t.Errorf("%s: it is %q, and the step found %q", name, got, want)
		}
		if server, _ := resultOf(t, w, result.Serving); server.Image != want {
			t.Errorf("%s: the server's is %q, and the step found %q", name, server.Image, want)
		}
	}
}
