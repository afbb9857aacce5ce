package trtexec

import (
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/release"
)

// ErrNeedsCast is the error of [Args] where fp16 has to be in the ONNX model already: trtexec of TensorRT 11 does not
// cast.
var ErrNeedsCast = errors.New("trtexec of this TensorRT does not cast to fp16: the ONNX model must be cast before")

// dialect holds the options of the trtexec of one line of TensorRT. An empty string is an option that this trtexec
// lacks or does not need. An option that trtexec does not know is fatal: "Unknown option", exit 1. Source: the option
// strings of samples/common/sampleOptions.cpp on each release branch of NVIDIA/TensorRT.
type dialect struct {
	From release.Version // the first TensorRT with this dialect

	// ExplicitBatch is accepted up to 9.3. It is only given where it is not known to be without effect: from 8.2 on
	// trtexec warns that it has none. On 8.0 it was part of the command that was seen to work.
	ExplicitBatch string
	// BuildOnly keeps trtexec from benchmarking: --buildOnly, and --skipInference from 8.6 (the old one is gone in
	// 10.0).
	BuildOnly string
	// FP16 allows fp16 beside fp32. Deprecated in 10.12, gone in 11.0.
	FP16 string
	// LayerInfo and a path follow each other; Verbosity makes the export say each layer's precision. Both from 8.2.
	LayerInfo, Verbosity string
	// PlanVersion prints, with --loadEngine, the TensorRT that built a plan. From 9.0.
	PlanVersion string
}

// dialects are the points where trtexec changed, oldest first. --onnx, --saveEngine, the three shapes, --noTF32 and
// --timingCacheFile (since 8.0) are the same in all of them; of --noTF32 in 11 that is inferred: NVIDIA's guide to it
// lists what was removed
// (https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-trtexec.html), and that is
// not among it.
func dialects() []dialect {
	const layerInfo, verbosity = "--exportLayerInfo=", "--profilingVerbosity=detailed"
	return []dialect{
		{From: release.Version{Major: 8}, ExplicitBatch: "--explicitBatch", BuildOnly: "--buildOnly", FP16: "--fp16"},
		{
			From: release.Version{Major: 8, Minor: 2}, BuildOnly: "--buildOnly", FP16: "--fp16", LayerInfo: layerInfo,
			Verbosity: verbosity,
		},
		{
			From: release.Version{Major: 8, Minor: 6}, BuildOnly: "--skipInference", FP16: "--fp16", LayerInfo: layerInfo,
			Verbosity: verbosity,
		},
		{
			From: release.Version{Major: 9}, BuildOnly: "--skipInference", FP16: "--fp16", LayerInfo: layerInfo,
			Verbosity: verbosity, PlanVersion: "--getPlanVersionOnly",
		},
		{
			From: release.Version{Major: 11}, BuildOnly: "--skipInference", LayerInfo: layerInfo, Verbosity: verbosity,
			PlanVersion: "--getPlanVersionOnly",
		},
	}
}

// dialectOf returns the dialect of a TensorRT; for a TensorRT newer than every known dialect, the newest. It is an
// error if the version is not known or older than 8.0.
func dialectOf(tensorRT release.Version) (dialect, error) {
	if tensorRT.IsZero() {
		return dialect{}, errors.New("the version of TensorRT is not known: " +
			"the image says it as TRT_VERSION in its environment")
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

// DescribesLayers says whether trtexec of a TensorRT takes [Build.LayerInfo]. It is false for a version that is not
// known.
func DescribesLayers(tensorRT release.Version) bool {
	d, err := dialectOf(tensorRT)
	return err == nil && d.LayerInfo != ""
}

// NeedsCast says whether trtexec of a TensorRT builds in fp16 only what the ONNX model has in fp16. It is false for a
// version that is not known.
func NeedsCast(tensorRT release.Version) bool {
	d, err := dialectOf(tensorRT)
	return err == nil && d.FP16 == ""
}
