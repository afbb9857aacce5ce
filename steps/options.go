package steps

import (
	"cmp"
	"time"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
)

// Lane is the hardware that a whole run uses.
type Lane string

// The lanes.
const (
	GPU Lane = "gpu"
	CPU Lane = "cpu"
)

// Source says where images come from.
type Source string

// The image sources.
const (
	NGC   Source = "ngc"   // NVIDIA's images of one release
	Local Source = "local" // small images built here from the embedded Dockerfiles
)

// Options say what a run makes. They are complete and validated: nothing here is "auto".
type Options struct {
	Lane     Lane
	Images   Source
	Release  release.Release // with NGC
	Registry string          // with NGC: HOST or HOST/PREFIX
	// ExporterRef and ServerRef, with NGC, name the images themselves, whatever their name and tag; empty is the release's in the registry.
	ExporterRef, ServerRef string
	BaseImage              string // with Local: a Debian 12 image
	BuildNet               string // with Local: network of image builds, "host" or ""
	BuildArgs              map[string]string
	CABundle               []byte // with Local: certificates that builds need behind an intercepting proxy

	Weights   WeightsSource
	Picture   Picture
	Precision release.Precision // of the engine
	OptBatch  int               // batch size that the engine is tuned for, 1 to MaxBatch
	MaxBatch  int               // 1 to 256
	GPUs      container.GPUs    // for build and serving alike
	GPUUUIDs  []string          // UUIDs of the GPUs, or MIG instances, that a container must see; nil if not known
	Device    Device            // what the GPU is, for the engine's fingerprint
	NoNVML    bool              // the driver has no whole NVML, as on WSL 2: DALI must not ask it

	HTTP, GRPC, Metrics container.Port
	ReadyTimeout        time.Duration // for each wait of serve: live, and every model
}

// Device is what an engine depends on: it runs only on the GPU model and TensorRT that it was built for.
type Device struct {
	Name    string // of the model; empty where it is not known
	Where   string // of a GPU whose model is not known: an engine for it is for no others
	Compute string // compute capability, such as 9.0
	Driver  string
}

// key is what an engine is for.
func (d Device) key() string { return cmp.Or(d.Name, d.Where) }

// WeightsSource says which weights a run uses.
type WeightsSource struct {
	Kind   WeightsKind
	Remote Remote // of Pretrained
	Seed   int64  // of Random
	Path   string // of File, absolute
}

// WeightsKind is a kind of weights.
type WeightsKind string

// The kinds of weights.
const (
	Pretrained WeightsKind = "pretrained" // torchvision's IMAGENET1K_V2
	Random     WeightsKind = "random"     // seeded and calibrated
	File       WeightsKind = "file"       // a user's state dict
)

// Picture is an encoded picture.
type Picture struct {
	// Name is what the user calls it; empty for the one that dalirun carries. A run whose picture cannot be verified
	// with is the user's to mend.
	Name string
	Data []byte
}

// Sample is the picture that dalirun carries: a cup of coffee.
func Sample() (Picture, error) {
	data, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
	return Picture{Data: data}, err
}
