package trtexec

import (
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// PrecisionProof says how it is known that an engine has the precision that was asked for.
type PrecisionProof struct {
	Asked release.Precision `json:"asked"`
	By    Proof             `json:"by"`
	// Half of All things of floating point are in half precision: tensors or layers with weights, or bytes of the plan by ProofSize, of
	// which All are those of the ONNX model in fp32.
	Half int64 `json:"half"`
	All  int64 `json:"all"`
}

// Proof is a way to know an engine's precision.
type Proof string

// The proofs, the best first.
const (
	ProofTensors Proof = "tensors"         // the types of the layers' inputs and outputs
	ProofWeights Proof = "weights"         // the types of the layers' weights, where a profile hides those of the tensors
	ProofSize    Proof = "size of weights" // the plan's size beside the ONNX model's, where layers are not described: before TensorRT 8.2
)

// Figures of ResNet50 on an H100, TensorRT 10.6: built with fp16, 320 of 322 tensors of floating point and all 53 layers with weights are
// half precision; with fp32, none of 324 and none of 53. TensorRT may leave layers in fp32 that are faster so.
const halfFloor = 0.5

// The plan of fp16 had 0.52 of the ONNX model's bytes, that of fp32 1.01.
const halfSize = 0.75

// provePrecision returns the proof from the layers that trtexec exported, or else from sizes in bytes: the plan's and that of the ONNX model in fp32.
func provePrecision(asked release.Precision, l Layers, plan, onnx int64) PrecisionProof {
	switch {
	case l.Tensors.Float() > l.Tensors[""]: // else those with a type may be inputs and outputs alone, which are fp32
		return PrecisionProof{asked, ProofTensors, int64(l.Tensors[typeFP16]), int64(l.Tensors.Float())}
	case l.Weights.Float() > 0:
		return PrecisionProof{asked, ProofWeights, int64(l.Weights[typeFP16]), int64(l.Weights.Float())}
	default:
		return PrecisionProof{asked, ProofSize, plan, onnx}
	}
}

// share is that of half precision, from 0 to 1. By size it is one or the other.
func (p PrecisionProof) share() float64 {
	if p.All == 0 {
		return 0
	}
	of := float64(p.Half) / float64(p.All)
	switch {
	case p.By != ProofSize:
		return of
	case of < halfSize:
		return 1
	default:
		return 0
	}
}

func (p PrecisionProof) String() string {
	if p.By == ProofSize {
		return fmt.Sprintf("%s by the plan's size, %s for a model of %s", p.Asked, bytesize.Format(p.Half), bytesize.Format(p.All))
	}
	what := p.By.counted()
	if p.Asked == release.FP32 {
		return fmt.Sprintf("fp32 in all of %d %s", p.All, what)
	}
	return fmt.Sprintf("fp16 in %.1f %% of %d %s", 100*p.share(), p.All, what)
}

// check refuses an engine of another precision than was asked for.
func (p PrecisionProof) check() error {
	switch share := p.share(); {
	case p.Asked == release.FP16 && share < halfFloor:
		return pipeline.Faultf(pipeline.ContainerFailed,
			"look in its log for what kept fp16 away; GPUs of compute capability 6.1 and before 5.3 have no fast fp16, and --precision fp32 is for them",
			"the engine is fp32 although fp16 was asked for: %s", p.evidence())
	case p.Asked == release.FP32 && share > 0:
		return pipeline.Faultf(pipeline.ContainerFailed, "use --precision fp16 if that is what you want; an engine that is fp16 cannot be held to the bounds of fp32",
			"the engine is fp16 although fp32 was asked for: %s", p.evidence())
	}
	return nil
}

func (p PrecisionProof) evidence() string {
	if p.By == ProofSize {
		return fmt.Sprintf("its plan has %s, the ONNX model in fp32 has %s", bytesize.Format(p.Half), bytesize.Format(p.All))
	}
	return fmt.Sprintf("%d of its %d %s are half precision", p.Half, p.All, p.By.counted())
}

// counted is what a proof counts.
func (p Proof) counted() string {
	if p == ProofTensors {
		return "tensors"
	}
	return "layers with weights"
}
