// Package target decides what a run is. [Resolve] turns a [Request] and the answers of [Probes] into a [Target], and
// returns every [Obstacle] in its way.
//
// All decisions are made here: setup, serve, e2e, plan and doctor call Resolve. A run ends with the first obstacle that
// refuses it, and doctor shows all. Request, [Answers] and Target are plain data: a replay of recorded answers gives
// the same Target and obstacles, byte for byte.
package target

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/recipe"
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

// Target is what a run will be. Nothing in it is "auto". It is complete but for what an obstacle kept from being
// decided.
type Target struct {
	Lane       Lane   `json:"lane"`
	LaneReason string `json:"lane_reason"` // for people: the GPUs, or why there are none
	Source     Source `json:"image_source"`
	Arch       string `json:"arch,omitempty"` // of the container engine, by Go's name

	Release      release.Release `json:"release,omitzero"`        // with NGC
	Images       ImagePair       `json:"images,omitzero"`         // with NGC
	BaseImage    string          `json:"base_image,omitempty"`    // with Local: a Debian 12 image
	BaseName     string          `json:"base_name,omitempty"`     // in the lock, where BaseImage is its digest
	BaseFound    Found           `json:"base_found,omitempty"`    // where the base image is, if that was asked
	BuildNetwork string          `json:"build_network,omitempty"` // with Local: "host", or "" for the engine's default
	LockedBuilds LockedBuilds    `json:"locked_builds,omitzero"`  // with Local and a lock

	Recipe    recipe.Recipe     `json:"recipe"` // what the model is
	Weights   WeightsSource     `json:"weights"`
	Picture   Picture           `json:"picture"`
	Precision release.Precision `json:"precision"` // of the engine; on the cpu lane of ONNX Runtime
	OptBatch  int               `json:"opt_batch"` // batch size that the engine is tuned for, 1 to MaxBatch
	MaxBatch  int               `json:"max_batch"` // 1 to 256
	Serving   Serving           `json:"serving,omitzero"`

	// GPUs are the GPUs of build and serving, by the container engine's names.
	GPUs container.GPUs `json:"gpus,omitzero"`
	// GPUUUIDs are those of the GPUs or MIG instances that a container must see; nil if they are not known.
	GPUUUIDs []string `json:"gpu_uuids,omitempty"`
	// GPUAccess says, for people, how the container engine gives GPUs to containers.
	GPUAccess string       `json:"gpu_access,omitempty"`
	Device    Device       `json:"device,omitzero"`  // that the engine is for
	Chosen    []host.GPU   `json:"chosen,omitempty"` // the GPUs themselves, as far as they are known
	Fits      release.Host `json:"fits,omitzero"`    // the properties of this host that a release must fit
	// NoNVML says that the driver's NVML is incomplete, as on WSL 2: DALI must not use it.
	NoNVML bool `json:"no_nvml,omitempty"`

	Ports        Ports         `json:"ports"`
	ReadyTimeout time.Duration `json:"ready_timeout"` // for each wait of a server: live, and every model

	// ImageRoom says, for people, how much is free on the container engine's disk and how much NVIDIA's images need.
	ImageRoom string `json:"image_room,omitempty"`
}

// Device is what an engine depends on: it runs only on the GPU model and TensorRT that it was built for.
type Device struct {
	Name     string `json:"name,omitempty"`    // of the model; empty where it is not known
	Location string `json:"where,omitempty"`   // of a GPU whose model is not known: its engine is for no other
	Compute  string `json:"compute,omitempty"` // compute capability, such as 9.0
	Driver   string `json:"driver,omitempty"`
}

// Key names the GPUs that can run the engine: those of a model, or else of a location.
func (d Device) Key() string { return cmp.Or(d.Name, d.Location) }

// GPUNames is the model of the GPUs of a run with their number, as in "2 × NVIDIA H100 80GB HBM3"; empty without one.
func (t Target) GPUNames() string {
	if n := len(t.Chosen); n > 1 {
		return fmt.Sprintf("%d × %s", n, t.Device.Key())
	}
	return t.Device.Key()
}

// Ports are the ports that a server is published on.
type Ports struct {
	HTTP    container.Port `json:"http"`
	GRPC    container.Port `json:"grpc"`
	Metrics container.Port `json:"metrics"`
	// Taken are the usual ports that are in use. The server gets free ones instead.
	Taken []TakenPort `json:"taken,omitempty"`
	// Untried says, for people, why it is not known whether a port is free; empty if all are known.
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
	Ref string `json:"ref"`
	// Tagged is the name that the lock has a digest of, which Ref then is; LockFile has it. Both are empty without.
	Tagged   string `json:"tagged,omitempty"`
	LockFile string `json:"lock_file,omitempty"`
	Named    bool   `json:"named,omitempty"` // by the user; else the image is the release's
	Found    Found  `json:"found,omitempty"` // empty if the image could not be inspected
	// Image is zero if it could not be inspected, and has layers only if it was found in the registry.
	Image registry.Image `json:"image,omitzero"`
	// digests of the unpacked layers that the container engine has
	LocalLayers []string `json:"local_layers,omitempty"`
	Unknown     string   `json:"unknown,omitempty"` // why the image could not be inspected
}

// Name is the image's name as it was asked for.
func (i ImageInfo) Name() string { return cmp.Or(i.Tagged, i.Ref) }

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
	Pretrained WeightsKind = "pretrained" // the recipe's
	Random     WeightsKind = "random"     // seeded and calibrated
	File       WeightsKind = "file"       // a user's state dict
	// AutoWeights occurs in a Request alone: Pretrained if they can be downloaded, else Random with seed 0.
	AutoWeights WeightsKind = Auto
)

// String names the weights as people do.
func (s WeightsSource) String() string {
	switch s.Kind {
	case Random:
		return fmt.Sprintf("random:%d", s.Seed)
	case File:
		return s.Path
	default:
		return strings.TrimSpace("pretrained " + s.Remote.Name)
	}
}

// Remote is a file to download, whose content is known by its hash.
type Remote struct {
	Name   string `json:"name,omitempty"` // by which people know it
	URL    string `json:"url"`
	SHA256 string `json:"sha256"` // hexadecimal
	Bytes  int64  `json:"bytes"`
}

// PretrainedWeights returns the trained weights of a recipe.
func PretrainedWeights(r recipe.Recipe) WeightsSource {
	w := r.Weights
	return WeightsSource{Kind: Pretrained, Remote: Remote{Name: w.Name, URL: w.URL, SHA256: w.SHA256, Bytes: w.Bytes}}
}

// Names are the names by which the target's models are served.
func (t Target) Names() recipe.Names {
	if t.Lane == GPU {
		return t.Recipe.GPUNames()
	}
	return t.Recipe.CPUNames()
}

// Picture is an encoded picture.
type Picture struct {
	// Name is the user's name for the picture; empty for the one that dalirun carries. An error of a picture with a
	// name is a usage error.
	Name string `json:"name,omitempty"`
	Data []byte `json:"data"`
}
