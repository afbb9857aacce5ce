// Package target decides what a run is. [Resolve] turns a [Request] and what the [Probes] answer into a [Target], and
// names every [Obstacle] on the way.
//
// Nobody else decides: setup, serve, e2e, plan and doctor all ask Resolve. A run ends with the first obstacle that
// refuses it, doctor shows each. Request, [Answers] and Target are plain data; answers that were recorded and are
// replayed give the same Target and the same obstacles, byte for byte.
package target

import (
	"cmp"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
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

// Auto leaves the choice of lane or image source to [Resolve].
const Auto = "auto"

// Target is what a run will be. Nothing in it is "auto"; what no obstacle kept from being decided is complete.
type Target struct {
	Lane       Lane   `json:"lane"`
	LaneReason string `json:"lane_reason"` // for people: the GPUs, or why there are none
	Source     Source `json:"source"`

	Release      release.Release `json:"release,omitzero"`        // with NGC
	Images       ImagePair       `json:"images,omitzero"`         // with NGC
	BaseImage    string          `json:"base_image,omitempty"`    // with Local: a Debian 12 image
	BaseFound    Found           `json:"base_found,omitempty"`    // where the base image is, if that was asked
	BuildNetwork string          `json:"build_network,omitempty"` // with Local: "host", or "" for the engine's default

	Weights   WeightsSource     `json:"weights"`
	Picture   Picture           `json:"picture"`
	Precision release.Precision `json:"precision"` // of the engine; on the cpu lane of ONNX Runtime
	OptBatch  int               `json:"opt_batch"` // batch size that the engine is tuned for, 1 to MaxBatch
	MaxBatch  int               `json:"max_batch"` // 1 to 256

	// GPUs are those of build and serving alike, by the names that the container engine has for them.
	GPUs      container.GPUs `json:"gpus,omitzero"`
	GPUUUIDs  []string       `json:"gpu_uuids,omitempty"`  // of GPUs or MIG instances that a container must see; nil if not known
	GPUAccess string         `json:"gpu_access,omitempty"` // for people: how the container engine gives them to containers
	Device    Device         `json:"device,omitzero"`      // what the engine is for
	Chosen    []host.GPU     `json:"chosen,omitempty"`     // the GPUs themselves, as far as they are known
	Fits      release.Host   `json:"fits,omitzero"`        // what of this host decides which release fits
	NoNVML    bool           `json:"no_nvml,omitempty"`    // the driver has no whole NVML, as on WSL 2: DALI must not ask it

	Ports        Ports         `json:"ports"`
	ReadyTimeout time.Duration `json:"ready_timeout"` // for each wait of a server: live, and every model

	// ImageRoom is, for people, what is free where the container engine stores images and what NVIDIA's would take.
	ImageRoom string `json:"image_room,omitempty"`
}

// Device is what an engine depends on: it runs only on the GPU model and TensorRT that it was built for.
type Device struct {
	Name    string `json:"name,omitempty"`    // of the model; empty where it is not known
	Where   string `json:"where,omitempty"`   // of a GPU whose model is not known: an engine for it is for no others
	Compute string `json:"compute,omitempty"` // compute capability, such as 9.0
	Driver  string `json:"driver,omitempty"`
}

// Key is what an engine is for.
func (d Device) Key() string { return cmp.Or(d.Name, d.Where) }

// Ports are those that a server is published on.
type Ports struct {
	HTTP    container.Port `json:"http"`
	GRPC    container.Port `json:"grpc"`
	Metrics container.Port `json:"metrics"`
	// Taken are those of the usual ports that others have: free ones will be taken instead.
	Taken []TakenPort `json:"taken,omitempty"`
	// Untried is, for people, why one of them could not be tried; empty if all could.
	Untried string `json:"untried,omitempty"`
}

// TakenPort is a port of this host that another program has.
type TakenPort struct {
	Port uint16 `json:"port"`
	User string `json:"user,omitempty"` // for people: " by nginx (pid 123)"; empty if it is not known
}

// ImagePair is what is known of the two images of an NGC run before either is pulled.
type ImagePair struct {
	Exporter ImageInfo `json:"exporter"`
	Server   ImageInfo `json:"server"`
}

// ImageInfo is what is known of one image.
type ImageInfo struct {
	Ref   string `json:"ref"`
	Named bool   `json:"named,omitempty"` // by itself, and not by a release
	Found Found  `json:"found,omitempty"` // empty if it could not be looked at
	// Image is zero if it could not be looked at, and without layers unless the registry described it.
	Image   registry.Image `json:"image,omitzero"`
	Here    []string       `json:"here,omitempty"`    // digests of the unpacked layers that the container engine has
	Unknown string         `json:"unknown,omitempty"` // why it could not be looked at
}

// Found says where an image was found.
type Found string

// Where an image can be found.
const (
	InEngine   Found = "container engine"
	InCache    Found = "cache"
	InRegistry Found = "registry"
)

// WeightsSource says which weights a run uses.
type WeightsSource struct {
	Kind   WeightsKind `json:"kind"`
	Remote Remote      `json:"remote,omitzero"` // of Pretrained
	Seed   int64       `json:"seed,omitempty"`  // of Random
	Path   string      `json:"path,omitempty"`  // of File, absolute
}

// WeightsKind is a kind of weights.
type WeightsKind string

// The kinds of weights.
const (
	Pretrained  WeightsKind = "pretrained" // torchvision's IMAGENET1K_V2
	Random      WeightsKind = "random"     // seeded and calibrated
	File        WeightsKind = "file"       // a user's state dict
	AutoWeights WeightsKind = Auto         // of a Request alone: Pretrained if they can be had, else Random with seed 0
)

// String names the weights as people do.
func (s WeightsSource) String() string {
	switch s.Kind {
	case Random:
		return fmt.Sprintf("random:%d", s.Seed)
	case File:
		return s.Path
	default:
		return "pretrained IMAGENET1K_V2"
	}
}

// Remote is a file to download of which the whole content is known before.
type Remote struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"` // hexadecimal
	Bytes  int64  `json:"bytes"`
}

// TorchvisionWeights returns torchvision's ResNet50_Weights.IMAGENET1K_V2. The URL is that of
// torchvision/models/resnet.py, and has eight digits of the SHA-256; the whole of it and the size are as seven public
// projects that check the file have them.
func TorchvisionWeights() WeightsSource {
	return WeightsSource{Kind: Pretrained, Remote: Remote{
		URL:    "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
		SHA256: "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
		Bytes:  102540417,
	}}
}

// Picture is an encoded picture.
type Picture struct {
	// Name is what the user calls it; empty for the one that dalirun carries. A run whose picture cannot be verified
	// with is the user's to mend.
	Name string `json:"name,omitempty"`
	Data []byte `json:"data"`
}
