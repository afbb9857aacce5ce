package release

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNeedsCast is the error of [Trtexec] where fp16 has to be in the ONNX model already: trtexec of TensorRT 11 does not cast.
var ErrNeedsCast = errors.New("trtexec of this TensorRT does not cast to fp16: the ONNX model must be cast before")

// dialect is how trtexec of one line of TensorRT is spoken to. An empty string is an option that it has not, or that it needs not.
// An option that trtexec does not know is fatal: "Unknown option", exit 1.
// Source: the option strings of samples/common/sampleOptions.cpp on each release branch of NVIDIA/TensorRT.
type dialect struct {
	From Version // the first TensorRT that speaks so

	// ExplicitBatch is accepted up to 9.3. It is only given where it is not known to be without effect: from 8.2 on trtexec warns
	// that it has none. On 8.0 it was part of the command that was seen to work.
	ExplicitBatch string
	// BuildOnly keeps trtexec from benchmarking: --buildOnly, and --skipInference from 8.6 (the old one is gone in 10.0).
	BuildOnly string
	// FP16 allows fp16 beside fp32. Deprecated in 10.12, gone in 11.0.
	FP16 string
	// LayerInfo and a path follow each other; Verbosity makes the export say each layer's precision. Both from 8.2.
	LayerInfo, Verbosity string
	// PlanVersion prints, with --loadEngine, the TensorRT that built a plan. From 9.0.
	PlanVersion string
}

// dialects are the points where trtexec changed, oldest first. --onnx, --saveEngine, the three shapes, --noTF32 and
// --timingCacheFile (since 8.0) are the same in all of them; of --noTF32 in 11 that is inferred: NVIDIA's guide to it lists what was
// removed (https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-trtexec.html), and that is not among it.
func dialects() []dialect {
	const layerInfo, verbosity = "--exportLayerInfo=", "--profilingVerbosity=detailed"
	return []dialect{
		{From: Version{Major: 8}, ExplicitBatch: "--explicitBatch", BuildOnly: "--buildOnly", FP16: "--fp16"},
		{From: Version{Major: 8, Minor: 2}, BuildOnly: "--buildOnly", FP16: "--fp16", LayerInfo: layerInfo, Verbosity: verbosity},
		{From: Version{Major: 8, Minor: 6}, BuildOnly: "--skipInference", FP16: "--fp16", LayerInfo: layerInfo, Verbosity: verbosity},
		{From: Version{Major: 9}, BuildOnly: "--skipInference", FP16: "--fp16", LayerInfo: layerInfo, Verbosity: verbosity, PlanVersion: "--getPlanVersionOnly"},
		{From: Version{Major: 11}, BuildOnly: "--skipInference", LayerInfo: layerInfo, Verbosity: verbosity, PlanVersion: "--getPlanVersionOnly"},
	}
}

// dialectOf returns the dialect of a TensorRT. One that is newer than all that are known is spoken to as the newest. It is an error
// if the version is not known or older than 8.0.
func dialectOf(tensorRT Version) (dialect, error) {
	if tensorRT.IsZero() {
		return dialect{}, errors.New("the version of TensorRT is not known: the image says it as TRT_VERSION in its environment")
	}
	var found dialect
	for _, d := range dialects() {
		if tensorRT.Compare(d.From) >= 0 {
			found = d
		}
	}
	if found.From.IsZero() {
		return dialect{}, fmt.Errorf("TensorRT %s is older than 8.0: use release 21.07 or newer", tensorRT)
	}
	return found, nil
}

// Precision is the arithmetic of the served model.
type Precision string

// The precisions.
const (
	FP16 Precision = "fp16" // fp16 where it is faster, else fp32; GPU lane alone
	FP32 Precision = "fp32" // on a GPU without TF32, which TensorRT takes for it by default and which has fp16's 10 bits of mantissa
)

// pictureShape is the shape of one picture in the model's input: channels, height, width.
const pictureShape = "3x224x224"

// EngineBuild is what an engine is built from and for. Paths are those in the container.
type EngineBuild struct {
	ONNX  string // the model
	Plan  string // where the engine goes
	Input string // name of the model's input, Nx3x224x224

	MinBatch, OptBatch, MaxBatch int // the optimization profile: 1 ≤ min ≤ opt ≤ max

	Precision Precision
	// Cast says that the ONNX model computes in fp16 already: TensorRT 11 builds what the model says, older ones need their flag as well.
	Cast        bool
	TimingCache string // read if it is there, written; empty for none
	LayerInfo   string // where the layers are described as JSON; empty for none. From TensorRT 8.2
}

// Trtexec returns the arguments, without the program, that make trtexec of a TensorRT build an engine and not benchmark it.
// What this TensorRT cannot do is an error, never left out: an engine must not silently be fp32. fp16 on TensorRT 11 or newer is
// [ErrNeedsCast], unless the model was cast.
func Trtexec(tensorRT Version, b EngineBuild) ([]string, error) {
	d, err := dialectOf(tensorRT)
	if err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	args := []string{
		"--onnx=" + b.ONNX,
		"--saveEngine=" + b.Plan,
		b.shape("--minShapes", b.MinBatch),
		b.shape("--optShapes", b.OptBatch),
		b.shape("--maxShapes", b.MaxBatch),
	}
	if d.ExplicitBatch != "" {
		args = append(args, d.ExplicitBatch)
	}
	switch {
	case b.Precision == FP32:
		args = append(args, "--noTF32")
	case d.FP16 != "":
		args = append(args, d.FP16)
	case !b.Cast:
		return nil, fmt.Errorf("TensorRT %s: %w", tensorRT, ErrNeedsCast)
	}
	args = append(args, d.BuildOnly)
	if b.TimingCache != "" {
		args = append(args, "--timingCacheFile="+b.TimingCache)
	}
	if b.LayerInfo != "" {
		if d.LayerInfo == "" {
			return nil, fmt.Errorf("trtexec of TensorRT %s cannot describe layers: that came with 8.2", tensorRT)
		}
		args = append(args, d.Verbosity, d.LayerInfo+b.LayerInfo)
	}
	return args, nil
}

func (b EngineBuild) check() error {
	switch {
	case b.ONNX == "" || b.Plan == "" || b.Input == "":
		return fmt.Errorf("engine build needs a model, a plan and an input name: have %q, %q, %q", b.ONNX, b.Plan, b.Input)
	case strings.ContainsAny(b.Input, ":,*'\" "):
		return fmt.Errorf("input name %q has a character with a meaning of its own in trtexec's shapes", b.Input)
	case b.MinBatch < 1 || b.OptBatch < b.MinBatch || b.MaxBatch < b.OptBatch:
		return fmt.Errorf("batch sizes %d, %d, %d are not 1 ≤ min ≤ opt ≤ max", b.MinBatch, b.OptBatch, b.MaxBatch)
	case b.Precision != FP16 && b.Precision != FP32:
		return fmt.Errorf("precision %q is neither fp16 nor fp32", b.Precision)
	case b.Cast && b.Precision != FP16:
		return errors.New("an engine in fp32 is asked for from a model that was cast to fp16")
	}
	return nil
}

// PlanVersion returns the arguments, without the program, that make trtexec say which TensorRT built a plan: it succeeds on one that
// was cut, too. It is nil where trtexec cannot: before TensorRT 9.0.
func PlanVersion(tensorRT Version, plan string) []string {
	d, err := dialectOf(tensorRT)
	if err != nil || d.PlanVersion == "" {
		return nil
	}
	return []string{"--loadEngine=" + plan, d.PlanVersion}
}

// DescribesLayers says whether trtexec of a TensorRT takes [EngineBuild.LayerInfo]. It is false for a version that is not known.
func DescribesLayers(tensorRT Version) bool {
	d, err := dialectOf(tensorRT)
	return err == nil && d.LayerInfo != ""
}

// NeedsCast says whether trtexec of a TensorRT builds in fp16 only what the ONNX model has in fp16. It is false for a version that
// is not known.
func NeedsCast(tensorRT Version) bool {
	d, err := dialectOf(tensorRT)
	return err == nil && d.FP16 == ""
}

func (b EngineBuild) shape(flag string, batch int) string {
	return fmt.Sprintf("%s=%s:%dx%s", flag, b.Input, batch, pictureShape)
}
