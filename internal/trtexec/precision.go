package trtexec

import (
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// PrecisionProof is the evidence that an engine has the requested precision.
type PrecisionProof struct {
	Requested release.Precision `json:"asked"`
	By        Proof             `json:"by"`
	// All counts what has a floating-point type, and Half what of it is in half precision: tensors by ProofTensors,
	// layers with weights by ProofWeights. By ProofSize, Half is the size of the plan and All that of the ONNX model in
	// fp32, in bytes.
	Half int64 `json:"half"`
	All  int64 `json:"all"`
}

// Proof is a way to know an engine's precision.
type Proof string

// The proofs, the best first.
const (
	// ProofTensors goes by the types of the layers' inputs and outputs.
	ProofTensors Proof = "tensors"
	// ProofWeights goes by the types of the layers' weights, where a profile hides those of the tensors.
	ProofWeights Proof = "weights"
	// ProofSize compares the size of the plan with that of the ONNX model, where layers are not described: before
	// TensorRT 8.2.
	ProofSize Proof = "size of weights"
)

// Figures of ResNet50 on an H100, TensorRT 10.6: built with fp16, 320 of 322 tensors of floating point and all 53
// layers with weights are half precision; with fp32, none of 324 and none of 53. TensorRT may leave layers in fp32 that
// are faster so.
const halfFloor = 0.5

// The plan of fp16 had 0.52 of the ONNX model's bytes, that of fp32 1.01.
const halfSize = 0.75

// provePrecision returns the proof from the layers that trtexec exported, or else from sizes in bytes: the plan's and
// that of the ONNX model in fp32.
func provePrecision(requested release.Precision, l Layers, plan, onnx int64) PrecisionProof {
	switch {
	case l.Tensors.Float() > l.Tensors[""]: // else only inputs and outputs may have a type, and those are fp32
		return PrecisionProof{requested, ProofTensors, int64(l.Tensors[typeFP16]), int64(l.Tensors.Float())}
	case l.Weights.Float() > 0:
		return PrecisionProof{requested, ProofWeights, int64(l.Weights[typeFP16]), int64(l.Weights.Float())}
	default:
		return PrecisionProof{requested, ProofSize, plan, onnx}
	}
}

// share is the share of half precision, from 0 to 1; by ProofSize it is 0 or 1.
func (p PrecisionProof) share() float64 {
	if p.All == 0 {
		return 0
	}
	share := float64(p.Half) / float64(p.All)
	switch {
	case p.By != ProofSize:
		return share
	case share < halfSize:
		return 1
	default:
		return 0
	}
}

func (p PrecisionProof) String() string {
	if p.By == ProofSize {
		return fmt.Sprintf("%s by the plan's size, %s for a model of %s", p.Requested, bytesize.Format(p.Half),
			bytesize.Format(p.All))
	}
	unit := p.By.counted()
	if p.Requested == release.FP32 {
		return fmt.Sprintf("fp32 in all of %d %s", p.All, unit)
	}
	return fmt.Sprintf("fp16 in %.1f %% of %d %s", 100*p.share(), p.All, unit)
}

// check refuses an engine of another precision than was asked for.
func (p PrecisionProof) check() error {
	switch share := p.share(); {
	case p.Requested == release.FP16 && share < halfFloor:
		return pipeline.Faultf(pipeline.ContainerFailed,
			"look in its log for what kept fp16 away; GPUs of compute capability 6.1 and before 5.3 have no fast fp16, "+
				"and --precision fp32 is for them",
			"the engine is fp32 although fp16 was asked for: %s", p.evidence())
	case p.Requested == release.FP32 && share > 0:
		return pipeline.Faultf(pipeline.ContainerFailed,
			"use --precision fp16 if that is what you want; an engine that is fp16 cannot be held to the bounds of fp32",
			"the engine is fp16 although fp32 was asked for: %s", p.evidence())
	}
	return nil
}

func (p PrecisionProof) evidence() string {
	if p.By == ProofSize {
		return fmt.Sprintf("its plan has %s, the ONNX model in fp32 has %s", bytesize.Format(p.Half),
			bytesize.Format(p.All))
	}
	return fmt.Sprintf("%d of its %d %s are half precision", p.Half, p.All, p.By.counted())
}

// counted names the things that a proof counts.
func (p Proof) counted() string {
	if p == ProofTensors {
		return "tensors"
	}
	return "layers with weights"
}
