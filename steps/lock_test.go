package steps_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// onPlatform completes a world by the architecture that a resolution finds out.
func onPlatform(w *world) *world {
	w.target.Arch = "amd64"
	return w
}

// A run says the lock that it used, from its target and its digests, and another one can read it.
func TestLockOf(t *testing.T) {
	t.Parallel()
	w := onPlatform(gpuNGC(t))
	w.target.Images.Server.Found, w.target.Images.Server.Image.Digest = target.InRegistry, sum("of the platform")
	digests := map[string]string{"exporter-image/image": sum("exporter"), "server-image/image": sum("server")}
	l, err := steps.LockOf(t.Context(), w.target, digests, w.tools)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]lock.Image{
		lock.Exporter: {Ref: "nvcr.io/nvidia/pytorch:25.03-py3", Digest: lock.Digest(sum("exporter"))},
		lock.Server: {
			Ref: "nvcr.io/nvidia/tritonserver:25.03-py3", Digest: lock.Digest(sum("server")),
			Platforms: map[string]lock.Digest{"linux/amd64": lock.Digest(sum("of the platform"))},
		},
	}
	if diff := cmp.Diff(want, l.Images); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if l.Release != "25.03" || l.Source != "ngc" || len(l.Scripts) < 8 || l.Scripts["export_onnx.py"] == "" || l.Labels == "" || l.Picture != lock.Digest(sum(string(coffee()))) {
		t.Errorf("its facts are %+v", l)
	}
	if _, err := lock.Parse("x.lock", l.Text()); err != nil {
		t.Error(err)
	}

	// What a step did not tell, as that nothing that ran read it, is what it last found; of no registry it is an ID.
	w.fake.AddLocal(w.target.Images.Server.Ref, containertest.Image{Image: container.Image{ID: sum("loaded from a file")}})
	w.observe(t, steps.IDServerImage)
	l, err = steps.LockOf(t.Context(), w.target, nil, w.tools)
	if got := l.Images[lock.Server]; err != nil || got.ID != lock.Digest(sum("loaded from a file")) || got.Digest != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got := l.Images[lock.Exporter]; got.Digest != "" || got.ID != "" {
		t.Errorf("nobody has seen the exporter image, and it is %+v", got)
	}
}

// A file of weights is its content; each other kind is what says what it is.
func TestLockOfWeights(t *testing.T) {
	t.Parallel()
	w := onPlatform(tutorial(t))
	l, err := steps.LockOf(t.Context(), w.target, nil, w.tools)
	if err != nil || l.Weights != (lock.Weights{Kind: "file", SHA256: lock.Digest(sum("a user's weights"))}) {
		t.Errorf("%+v, %v", l.Weights, err)
	}
	w.target.Weights.Path += ".gone"
	_, err = steps.LockOf(t.Context(), w.target, nil, w.tools)
	wantFault(t, err, pipeline.Environment)
	w = onPlatform(cpuNGC(t))
	l, err = steps.LockOf(t.Context(), w.target, nil, w.tools)
	if remote := w.target.Weights.Remote; err != nil || l.Weights != (lock.Weights{Kind: "pretrained", URL: remote.URL, SHA256: lock.Digest("sha256:" + remote.SHA256)}) {
		t.Errorf("%+v, %v", l.Weights, err)
	}
}

// The lock of local images has what they resolved, which their steps find out, and a base image that may be pinned.
func TestForLock(t *testing.T) {
	t.Parallel()
	w := onPlatform(cpuLocal(t))
	text := func() lock.Lock {
		t.Helper()
		list := steps.ForLock(w.target, w.tools)
		in := pipeline.Inputs{}
		for _, s := range list {
			if err := w.runStep(t, t.Context(), s, in); err != nil {
				t.Fatal(err)
			}
			for _, o := range s.Outputs() {
				in[o] = w.values[o]
			}
		}
		if last := list[len(list)-1]; last.ID() != steps.IDLock || len(last.Inputs()) != 2 {
			t.Errorf("the last step is %s, and reads %v", last.ID(), last.Inputs())
		}
		l, err := lock.Parse("x.lock", steps.LockText(pipeline.Values{"lock": in[list[2].Outputs()[0]]}))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w.packages = "libc6 2.36\ntorch 2.6.0\n"
	w.fake.AddLocal(w.target.BaseImage, containertest.Image{Image: container.Image{ID: sum("base")}})
	l := text()
	want := map[string]map[string]string{"linux/amd64": {"libc6": "2.36", "torch": "2.6.0"}}
	for _, name := range []string{lock.Exporter, lock.Server} {
		if diff := cmp.Diff(want, l.Builds[name].Packages); diff != "" || l.Builds[name].Hash == "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(lock.Image{Ref: "debian:bookworm-slim", ID: lock.Digest(sum("base"))}, l.Images[lock.Base]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	w.target = w.target.OnBase(lock.Image{Ref: "debian:bookworm-slim", Digest: lock.Digest(sum("pinned"))})
	w.fake.AddLocal("debian:bookworm-slim", containertest.Image{Image: container.Image{Digest: sum("pinned")}})
	pinned := text()
	if diff := cmp.Diff(lock.Image{Ref: "debian:bookworm-slim", Digest: lock.Digest(sum("pinned"))}, pinned.Images[lock.Base]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	builds := w.fake.Builds()
	if base := builds[len(builds)-1].Args["BASE"]; base != "debian@"+sum("pinned") || pinned.Builds[lock.Server].Hash == l.Builds[lock.Server].Hash {
		t.Errorf("it was built on %s", base)
	}
}

// Other packages than the lock's are told of by the step that finds them, or refuse a frozen run.
func TestLockedPackages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		locked map[string]string
		frozen bool
		want   string
	}{
		"the same":         {map[string]string{"python3": "3.11"}, true, ""},
		"others":           {map[string]string{"python3": "3.12"}, false, "package server linux/amd64 python3: 3.12 → 3.11"},
		"others, frozen":   {map[string]string{"python3": "3.12"}, true, "package server linux/amd64 python3: 3.12 → 3.11"},
		"another platform": {nil, true, "package server linux/amd64: a list of 1, which is not in the lock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := onPlatform(cpuLocal(t))
			w.target.LockedBuilds = target.LockedBuilds{
				File: "/p/dalirun.lock", Frozen: tt.frozen, Packages: map[string]map[string]string{lock.Server: tt.locked},
			}
			err := w.run(t, t.Context(), steps.IDServerImage)
			var warnings []string
			for _, p := range w.payloads {
				if warning, ok := p.(pipeline.Warning); ok {
					warnings = append(warnings, warning.Text)
				}
			}
			switch told := strings.Join(warnings, "\n"); {
			case tt.want != "" && tt.frozen:
				f := fault(t, err, pipeline.Environment)
				if !strings.HasSuffix(f.Error(), "/p/dalirun.lock:\n"+tt.want) || !strings.Contains(f.Hint, "dalirun lock --update") {
					t.Errorf("%q, hint %q", f, f.Hint)
				}
			case err != nil || (told == "") != (tt.want == "") || !strings.HasSuffix(told, tt.want):
				t.Errorf("%v, %q; want %q", err, told, tt.want)
			}
			w.wantNoContainer(t)
		})
	}
}

// A pull by digest that fails asks which digest is gone; one that fails for another reason says that.
func TestLockedImageGone(t *testing.T) {
	t.Parallel()
	index, layer := sum("server"), sum("a layer")
	for name, tt := range map[string]struct {
		gone       []string
		err        error
		says, hint string
	}{
		"a layer":        {[]string{layer}, nil, "of its digest in /p/dalirun.lock, " + index + ", the registry has lost " + layer, "dalirun lock --update"},
		"two":            {[]string{layer, sum("b")}, nil, "has lost " + layer + " and " + sum("b"), "--registry"},
		"the manifest":   {[]string{index}, nil, "nvcr.io/nvidia/tritonserver:25.03-py3: its digest in /p/dalirun.lock, " + index + ", is not in its registry any more", "push it again"},
		"nothing":        {nil, nil, "unexpected EOF", "check the name and the network"},
		"nobody answers": {nil, errors.New("no answer"), "unexpected EOF", "check the name and the network"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			ref := "nvcr.io/nvidia/tritonserver@" + index
			w.target.Images.Server = target.ImageInfo{Ref: ref, Tagged: w.target.Images.Server.Ref, LockFile: "/p/dalirun.lock"}
			var asked []string
			w.tools.Gone = func(_ context.Context, ref string) ([]string, error) {
				asked = append(asked, ref)
				return tt.gone, tt.err
			}
			w.fake.OnPull = func(context.Context, string, func(container.Progress)) error { return errors.New("unexpected EOF") }
			f := fault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
			if !strings.Contains(f.Error(), tt.says) || !strings.Contains(f.Hint, tt.hint) || !slices.Equal(asked, []string{ref}) {
				t.Errorf("%q, hint %q, asked %q", f, f.Hint, asked)
			}
		})
	}
	w := gpuNGC(t)
	w.tools.Gone = func(context.Context, string) ([]string, error) {
		t.Error("of a tag nobody can say which digest it meant")
		return nil, nil
	}
	w.fake.OnPull = func(context.Context, string, func(container.Progress)) error { return errors.New("unexpected EOF") }
	wantFault(t, w.run(t, t.Context(), steps.IDServerImage), pipeline.Environment)
}

// By its digest an image is pulled and run, and what identifies it is the same as by its tag: results are shared.
func TestPullByDigest(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	_, _ = w.make(t, steps.IDExportONNX), w.facts(t, steps.IDExportONNX)
	byTag := w.values[w.step(steps.IDExporterImage).Outputs()[0]]
	w.target.Images.Exporter = target.ImageInfo{Ref: "nvcr.io/nvidia/pytorch@" + sum("exporter"), Tagged: w.target.Images.Exporter.Ref}
	state, values := w.observe(t, steps.IDExporterImage)
	if got := values["image"]; !state.Present || got.Digest != byTag.Digest || got.Ref != "nvcr.io/nvidia/pytorch@"+sum("exporter") {
		t.Errorf("%+v is %+v, and by its tag %+v", state, got, byTag)
	}
}

// A cache that an older dalirun filled has the digest of a list of packages and not the list, which is read again.
func TestOldListOfPackages(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	first := localImage(t, w)
	for key := range w.kv.values {
		if strings.HasPrefix(key, "list of packages ") {
			delete(w.kv.values, key)
		}
	}
	if state, values := w.observe(t, steps.IDServerImage); state.Present || values != nil || !strings.Contains(state.Reason, "package versions") {
		t.Errorf("observed %+v, %v", state, values)
	}
	if again := localImage(t, w); again != first || len(w.fake.Builds()) != 1 {
		t.Errorf("it is %s after %d builds, want %s after 1", again, len(w.fake.Builds()), first)
	}
}
