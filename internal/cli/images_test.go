package cli

import (
	"context"
	"errors"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// startRegistry starts a registry with both images of release 25.03 and tells its address as REGISTRY. What it does instead of
// giving them out can be named.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "registry [401|403|404|429|500|hang|private|huge|mixed|any]"
	arguments(ts, neg, args, 0, 1, usage)
	s := registrytest.New(of(ts).tb)
	s.PushNGC(of(ts).tb)
	ts.Setenv("REGISTRY", s.Host())
	if len(args) == 0 {
		return
	}
	if code, ok := map[string]int{
		"401": http.StatusUnauthorized, "403": http.StatusForbidden, "404": http.StatusNotFound, "429": http.StatusTooManyRequests,
		"500": http.StatusInternalServerError,
	}[args[0]]; ok {
		s.Status(code)
		return
	}
	switch args[0] {
	case "hang":
		s.Hang()
	case "private": // to one user
		s.Token("$oauthtoken")
	case "huge": // more than any disk
		s.Push(of(ts).tb, "nvidia/tritonserver:25.03-py3", registrytest.Image{Arch: "amd64", Layers: []int64{math.MaxInt64 / 8}})
	case "mixed": // 21.07 builds in the PyTorch image
		s.Push(of(ts).tb, "nvidia/pytorch:21.07-py3", registrytest.Pytorch("amd64", "21.07", "8.0.1.6", "11.4.0.031", "1.3.0"))
		s.Push(of(ts).tb, "nvidia/tritonserver:21.07-py3", registrytest.Tritonserver("amd64", "21.07", "2.12.0", "8.0.3.4", "11.4.0.031", ""))
	case "any": // images of no release
		s.Push(of(ts).tb, "team/serving:prod-7", registrytest.Image{Arch: "amd64", Env: []string{"TRT_VERSION=10.6.0.26", "CUDA_VERSION=12.6.3.004", "DALI_VERSION=2.4.0"}, Layers: []int64{5e9}})
		s.Push(of(ts).tb, "team/train:prod-7", registrytest.Image{Arch: "amd64", Env: []string{"TRT_VERSION=10.7.0.1"}, Layers: []int64{6e9}})
	default:
		ts.Fatalf("usage: %s", usage)
	}
}

// notes is a memo in memory.
type notes struct{ sync.Map }

func (n *notes) Recall(key string) (string, bool) {
	v, ok := n.Load(key)
	text, _ := v.(string)
	return text, ok
}

func (n *notes) Remember(key, value string) error {
	n.Store(key, value)
	return nil
}

func options(tb testing.TB, host, tag string) steps.Options {
	tb.Helper()
	r, err := release.Find(tag)
	if err != nil {
		tb.Fatal(err)
	}
	return steps.Options{Lane: steps.GPU, Images: steps.NGC, Release: r, Registry: host}
}

// What is here, or was, is not asked for in a registry.
func TestLook(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	o := options(t, s.Host(), "25.03")
	lookup := registryLookup(&containertest.Fake{}, container.Info{})
	memo := &notes{}
	fake := &containertest.Fake{}

	l := look(t.Context(), fake, memo, lookup, o, "amd64")
	if l.exporter.from != fromRegistry || l.server.from != fromRegistry || l.server.image.Env["TRT_VERSION"] != "10.9.0.34" {
		t.Errorf("on a cold machine: %+v", l)
	}
	if len(s.Requests()) == 0 {
		t.Error("nothing was asked")
	}

	env := map[string]string{"TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8.1"}
	fake.AddLocal(o.ServerImage(), containertest.Image{Image: container.Image{Env: env, Arch: "amd64", Layers: []string{"sha256:a"}}})
	fake.AddLocal(o.ExporterImage(), containertest.Image{Image: container.Image{Env: env, Arch: "amd64"}})
	for _, step := range steps.For(o, steps.Tools{Runtime: fake, KV: memo}, steps.IDServerImage) {
		if _, _, err := step.(pipeline.Observer).Observe(t.Context(), nil); err != nil { //nolint:forcetypeassert,errcheck // a panic says the same
			t.Fatal(err)
		}
	}
	asked := len(s.Requests())
	l = look(t.Context(), fake, memo, lookup, o, "amd64")
	if l.exporter.from != fromEngine || l.server.from != fromEngine || cmp.Diff(env, l.server.image.Env) != "" || cmp.Diff([]string{"sha256:a"}, l.server.here) != "" {
		t.Errorf("both are here: %+v", l)
	}
	fake.RemoveImage(o.ServerImage())
	l = look(t.Context(), fake, memo, lookup, o, "amd64")
	if l.exporter.from != fromEngine || l.server.from != fromCache || cmp.Diff(env, l.server.image.Env) != "" {
		t.Errorf("one was here: %+v", l)
	}
	if bytes, _ := l.unpacked(); bytes != 0 || len(s.Requests()) != asked {
		t.Errorf("%d bytes, and the registry was asked %q", bytes, s.Requests()[asked:])
	}
}

// Both are looked at in the time of one.
func TestLookAtBothAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	both := make(chan struct{})
	var meet sync.WaitGroup
	meet.Add(2)
	go func() { meet.Wait(); close(both) }()
	l := look(ctx, &containertest.Fake{}, &notes{}, func(ctx context.Context, ref, _ string) (registry.Image, error) {
		meet.Done()
		select {
		case <-both:
			return registry.Image{Ref: ref}, nil
		case <-ctx.Done():
			return registry.Image{}, errors.New("the other one was not asked meanwhile")
		}
	}, options(t, "nvcr.io", "25.03"), "amd64")
	if l.exporter.err != nil || l.server.err != nil {
		t.Error(l.exporter.err, l.server.err)
	}
}

func TestUnpacked(t *testing.T) {
	t.Parallel()
	layers := func(sizes ...int64) registry.Image {
		var i registry.Image
		for _, size := range sizes {
			i.Layers = append(i.Layers, registry.Layer{Digest: "sha256:" + strings.Repeat("a", int(size%50)), Size: size})
		}
		return i
	}
	l := looked{exporter: seen{from: fromRegistry, image: layers(10e9, 3e9+1)}, server: seen{from: fromRegistry, image: layers(10e9, 2e9+2)}}
	bytes, assumed := l.unpacked()
	if want := int64(48_750_000_009); bytes != want || assumed != "13.97 GiB to download, 2.25 times that unpacked (assumed), and both while they are pulled" {
		t.Errorf("%d bytes, %q; want %d: a layer of both is stored once", bytes, assumed, want)
	}
	if bytes, assumed := (looked{}).unpacked(); bytes != 0 || assumed != "" {
		t.Errorf("of nothing: %d, %q", bytes, assumed)
	}
}

// What surely does not fit is refused; what is assumed not to fit is a doubt.
func TestRoom(t *testing.T) {
	t.Parallel()
	layers := []registry.Layer{{Digest: "a", Unpacked: "A", Size: 4e9}, {Digest: "b", Unpacked: "B", Size: 6e9}}
	all := looked{server: seen{from: fromRegistry, image: registry.Image{Layers: layers}}}
	half := looked{exporter: seen{from: fromEngine, here: []string{"A"}}, server: all.server}
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		l    looked
		info container.Info
		free uint64
		want status
		says string
	}{
		"not even the layers":     {all, container.Info{RootDir: "/", ImageDir: dir}, 9e9, statusFail, " has 8.382 GiB free, and the images have 9.313 GiB to download"},
		"less than is assumed":    {all, container.Info{RootDir: "/", ImageDir: dir}, 32e9, statusWarn, " has 29.8 GiB free, and the images may need 30.27 GiB (9.313 GiB to download, 2.25 times that unpacked (assumed)"},
		"enough":                  {all, container.Info{RootDir: "/", ImageDir: dir}, 33e9, statusOK, " may need 30.27 GiB"},
		"a layer is here":         {half, container.Info{RootDir: "/", ImageDir: dir}, 9e9, statusWarn, "may need 18.16 GiB (5.588 GiB to download"},
		"all here":                {looked{}, container.Info{RootDir: "/", ImageDir: dir}, 0, statusOK, " has 0 B free"},
		"on another host":         {all, container.Info{RootDir: "/", ImageDir: dir, Remote: true}, 0, "", ""},
		"in a virtual machine":    {all, container.Info{ImageDir: filepath.Join(dir, "not", "here")}, 0, "", ""},
		"where is not known":      {all, container.Info{RootDir: dir}, 9e9, statusWarn, "need not be where it stores images, has 8.382 GiB free, and the images have 9.313 GiB to download"},
		"the engine does not say": {all, container.Info{}, 0, "", ""},
	} {
		f := tt.l.room(tt.info, func(path string) (uint64, error) {
			if path != dir {
				t.Errorf("%s: looked at %s", name, path)
			}
			return tt.free, nil
		})
		if f.Status != tt.want || !strings.Contains(f.Saw, tt.says) || (f.Remedy != "") != (tt.want == statusFail || tt.want == statusWarn) {
			t.Errorf("%s: %+v", name, f)
		}
		if advised := strings.Contains(f.Remedy, "data-root"); advised != (f.Remedy != "" && tt.info.ImageDir != "") {
			t.Errorf("%s: moving data-root is advised: %t", name, advised)
		}
	}
	broken := errors.New("stat: no permission")
	if f := all.room(container.Info{RootDir: "/", ImageDir: dir}, func(string) (uint64, error) { return 0, broken }); f.Status != statusWarn || f.Saw != broken.Error() {
		t.Errorf("not known: %+v", f)
	}
}

// No release is proposed for an image that was named: it would stay.
func TestRemedyForNamedImages(t *testing.T) {
	t.Parallel()
	r, err := release.Find("25.03")
	if err != nil {
		t.Fatal(err)
	}
	h := release.Host{Driver: "580.10", Compute: []string{"9.0"}}
	for _, l := range []looked{{server: seen{named: true}}, {exporter: seen{named: true}}} {
		for _, kind := range []release.Kind{release.DriverTooOld, release.ComputeTooLow, release.TensorRTDiffers, release.TensorRTUnknown, release.DALINewer, release.OtherArch} {
			if hint := l.remedy(kind, r, h, "amd64"); strings.Contains(hint, "--release") || !strings.Contains(hint, "name ") {
				t.Errorf("%s: %s", kind, hint)
			}
		}
		if hint := l.remedy(release.DriverTooOld, r, h, "amd64"); !strings.Contains(hint, "update the NVIDIA driver") {
			t.Error(hint)
		}
	}
}

// Other registries and releases are advice for a release's images alone.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for kind, want := range map[registry.Kind]string{
		registry.NotFound: "--release", registry.NoAnswer: "--registry", registry.Failing: "--registry", registry.Unreadable: "--registry", registry.Unauthorized: "",
	} {
		hint := func(named string) string {
			s := seen{err: &registry.Error{Kind: kind}}.as(named)
			return hintOf(s.fault(), "")
		}
		if of := hint(""); !strings.Contains(of, want) || strings.Contains(hint("a/b:c"), "--re") {
			t.Errorf("%s: of a release: %s; named: %s", kind, of, hint("a/b:c"))
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	image := func(arch string, env map[string]string) seen {
		return seen{ref: "registry.test/x:y", from: fromRegistry, image: registry.Image{Arch: arch, Env: env}}
	}
	type env = map[string]string
	h100 := release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}
	for name, tt := range map[string]struct {
		tag        string
		l          looked
		host       release.Host
		says, hint string
	}{
		"they fit":         {"25.03", looked{image("amd64", nil), image("amd64", env{"TRT_VERSION": "10.9.0.34"})}, h100, "", ""},
		"nothing is known": {"25.03", looked{}, h100, "", ""},
		"TensorRT": {
			"21.07",
			looked{image("amd64", env{"TRT_VERSION": "8.0.1.6"}), image("amd64", env{"TRT_VERSION": "8.2.1"})},
			h100,
			"release 21.07: TensorRT 8.0.1.6 of its exporter image would build an engine that TensorRT 8.2.1", "--release 26.09 would fit; or name images of one release",
		},
		"driver": {
			"25.03",
			looked{server: image("amd64", env{"CUDA_VERSION": "13.0"})},
			release.Host{Driver: "570.10", Compute: []string{"9.0"}},
			"release 25.03: its CUDA 13.0 needs driver 580 or newer, and the host has 570.10", "--release 25.02 would fit; or update the NVIDIA driver",
		},
		"compute": {
			"25.03",
			looked{},
			release.Host{Driver: "580.10", Compute: []string{"7.0"}},
			"release 25.03: it needs compute capability 7.5 or higher", "--release 24.05 would fit",
		},
		"nothing fits": {
			"25.03", looked{}, release.Host{Driver: "580.10", Compute: []string{"5.2"}}, "it needs compute capability 7.5", "use --accel cpu",
		},
		"architecture": {"25.03", looked{image("arm64", nil), image("amd64", nil)}, h100, "its exporter image is for arm64, and the container engine runs amd64", "name images for amd64"},
		"the newest itself does not fit": {
			"26.10", looked{server: image("amd64", env{"CUDA_ARCH_LIST": "10.0 12.0"})}, h100, "compiled for compute capability 10.0 or higher", "--release 26.09 would fit",
		},
		"an image that says nothing": {"27.03", looked{server: image("amd64", env{"A": "b"})}, h100, "does not say which TensorRT it holds", "name NVIDIA's plain -py3 image"},
	} {
		r, err := release.Find(tt.tag)
		if err != nil {
			t.Fatal(err)
		}
		err = tt.l.fits(r, tt.host, "amd64")
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(hintOf(err, ""), tt.hint) || exitCode(err) != ExitEnvironment {
			t.Errorf("%s: %v, hint %q", name, err, hintOf(err, ""))
		}
	}
}

// A registry that answers is believed; one that does not is a doubt, told once.
func TestUnseen(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	o := options(t, s.Host(), "25.03")
	for code, refuses := range map[int]bool{401: true, 403: true, 404: true, 429: false, 500: false} {
		s.Status(code)
		l := look(t.Context(), &containertest.Fake{}, &notes{}, registryLookup(&containertest.Fake{}, container.Info{}), o, "amd64")
		doubts, refused := l.unseen()
		if refuses != (refused != nil) || refuses == (len(doubts) > 0) {
			t.Errorf("%d: %v, %q", code, refused, doubts)
		}
		if refuses && (exitCode(refused) != ExitEnvironment || hintOf(refused, "") == "") {
			t.Errorf("%d: exit code %d, hint %q", code, exitCode(refused), hintOf(refused, ""))
		}
	}
	s.Status(http.StatusForbidden)
	for _, info := range []container.Info{{Remote: true}, {Name: "Podman Engine"}} {
		l := look(t.Context(), &containertest.Fake{}, &notes{}, registryLookup(&containertest.Fake{}, info), o, "amd64")
		if doubts, refused := l.unseen(); refused != nil || len(doubts) != 2 || !strings.Contains(doubts[0], "a firewall or the registry") {
			t.Errorf("%+v: %q, %v", info, doubts, refused)
		}
	}
	broken := errors.New("the container engine is gone")
	if doubts, refused := (looked{server: seen{err: broken}}).unseen(); !errors.Is(refused, broken) || len(doubts) > 0 {
		t.Errorf("another error: %v, %q", refused, doubts)
	}
}
