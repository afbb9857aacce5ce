package target

import (
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

func TestUnpacked(t *testing.T) {
	t.Parallel()
	layers := func(sizes ...int64) registry.Image {
		var i registry.Image
		for _, size := range sizes {
			i.Layers = append(i.Layers, registry.Layer{Digest: "sha256:" + strings.Repeat("a", int(size%50)), Size: size})
		}
		return i
	}
	p := ImagePair{ImageInfo{Image: layers(10e9, 3e9+1)}, ImageInfo{Image: layers(10e9, 2e9+2)}}
	bytes, assumed := p.Unpacked()
	if want := int64(48_750_000_009); bytes != want || assumed != "13.97 GiB to download, 2.25 times that unpacked (assumed), and both while they are pulled" {
		t.Errorf("%d bytes, %q; want %d: a layer of both is stored once", bytes, assumed, want)
	}
	if bytes, assumed := (ImagePair{}).Unpacked(); bytes != 0 || assumed != "" {
		t.Errorf("of nothing: %d, %q", bytes, assumed)
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
	for _, l := range []inspectedPair{{server: inspected{ImageInfo: ImageInfo{Named: true}}}, {exporter: inspected{ImageInfo: ImageInfo{Named: true}}}} {
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

func TestFits(t *testing.T) {
	t.Parallel()
	image := func(arch string, env map[string]string) inspected {
		return inspected{ImageInfo: ImageInfo{Ref: "registry.test/x:y", Image: registry.Image{Arch: arch, Env: env}}}
	}
	type env = map[string]string
	h100 := release.Host{Driver: "580.159.04", Compute: []string{"9.0"}}
	for name, tt := range map[string]struct {
		tag        string
		l          inspectedPair
		host       release.Host
		says, hint string
	}{
		"they fit":         {"25.03", inspectedPair{image("amd64", nil), image("amd64", env{"TRT_VERSION": "10.9.0.34"})}, h100, "", ""},
		"nothing is known": {"25.03", inspectedPair{}, h100, "", ""},
		"TensorRT": {
			"21.07",
			inspectedPair{image("amd64", env{"TRT_VERSION": "8.0.1.6"}), image("amd64", env{"TRT_VERSION": "8.2.1"})},
			h100,
			"release 21.07: TensorRT 8.0.1.6 of its exporter image would build an engine that TensorRT 8.2.1", "--release 26.09 would fit; or name images of one release",
		},
		"driver": {
			"25.03",
			inspectedPair{server: image("amd64", env{"CUDA_VERSION": "13.0"})},
			release.Host{Driver: "570.10", Compute: []string{"9.0"}},
			"release 25.03: its CUDA 13.0 needs driver 580 or newer, and the host has 570.10", "--release 25.02 would fit; or update the NVIDIA driver",
		},
		"compute": {
			"25.03",
			inspectedPair{},
			release.Host{Driver: "580.10", Compute: []string{"7.0"}},
			"release 25.03: it needs compute capability 7.5 or higher", "--release 24.05 would fit",
		},
		"nothing fits": {
			"25.03", inspectedPair{}, release.Host{Driver: "580.10", Compute: []string{"5.2"}}, "it needs compute capability 7.5", "use --accel cpu",
		},
		"architecture": {"25.03", inspectedPair{image("arm64", nil), image("amd64", nil)}, h100, "its exporter image is for arm64, and the container engine runs amd64", "name images for amd64"},
		"the newest itself does not fit": {
			"26.10", inspectedPair{server: image("amd64", env{"CUDA_ARCH_LIST": "10.0 12.0"})}, h100, "compiled for compute capability 10.0 or higher", "--release 26.09 would fit",
		},
		"an image that says nothing": {"27.03", inspectedPair{server: image("amd64", env{"A": "b"})}, h100, "does not say which TensorRT it holds", "name NVIDIA's plain -py3 image"},
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
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(pipeline.HintOf(err), tt.hint) || !environment(err) {
			t.Errorf("%s: %v, hint %q", name, err, pipeline.HintOf(err))
		}
	}
}

// A registry that answers is believed; one that does not is a doubt, told once.
func TestUnknownImages(t *testing.T) {
	t.Parallel()
	for kind, refuses := range map[registry.Kind]bool{
		registry.Unauthorized: true, registry.Forbidden: true, registry.NotFound: true, registry.OtherArch: true,
		registry.RateLimited: false, registry.Failing: false, registry.NoAnswer: false,
	} {
		i := inspected{err: &registry.Error{Kind: kind, Text: "look up"}}
		doubts, refused := inspectedPair{i, i}.unknown()
		if refuses != (refused != nil) || !refuses && len(doubts) != 1 || refuses && len(doubts) > 0 {
			t.Errorf("%s: %v, %q", kind, refused, doubts)
		}
		if refuses && (!environment(refused) || pipeline.HintOf(refused) == "") {
			t.Errorf("%s: %v, hint %q", kind, refused, pipeline.HintOf(refused))
		}
	}
	elsewhere := inspected{err: &registry.Error{Kind: registry.Forbidden, Text: "forbidden", Elsewhere: true}}
	if doubts, refused := (inspectedPair{server: elsewhere}).unknown(); refused != nil || len(doubts) != 1 {
		t.Errorf("where the container engine has other credentials: %q, %v", doubts, refused)
	}
	broken := errors.New("the container engine is gone")
	if doubts, refused := (inspectedPair{server: inspected{err: broken}}).unknown(); !errors.Is(refused, broken) || len(doubts) > 0 {
		t.Errorf("another error: %v, %q", refused, doubts)
	}
}

// Other registries and releases are advice for what they can mend.
func TestOtherPlace(t *testing.T) {
	t.Parallel()
	for kind, want := range map[registry.Kind]string{
		registry.NotFound: "--release", registry.NoAnswer: "--registry", registry.Failing: "--registry", registry.Unreadable: "--registry",
	} {
		if got := otherPlace(kind); !strings.Contains(got, want) {
			t.Errorf("%s: %q", kind, got)
		}
	}
	if got := otherPlace(registry.Unauthorized); got != "" {
		t.Errorf("credentials: %q", got)
	}
}

func environment(err error) bool {
	fault, ok := errors.AsType[*pipeline.Fault](err)
	return ok && fault.Kind == pipeline.Environment
}
