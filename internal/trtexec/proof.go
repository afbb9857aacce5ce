package trtexec

import (
	"cmp"
	"math"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// Evidence is what a successful build left to judge its engine by.
type Evidence struct {
	Log           LogFacts
	LayerInfo     []byte          // the content of [Build.LayerInfo]; nil where there is none
	PlanBytes     int64           // size of the plan
	PlanSHA256    string          // of the plan's content, hexadecimal
	ONNXBytes     int64           // size of the model that the engine was built from
	TensorRT      release.Version // of the dialect in which trtexec was called
	ImageTensorRT string          // what the image says of its TensorRT; empty where it says nothing
}

// Prove compares the engine that was built with the request. A difference is an error: an [OtherGPUError], or a
// [pipeline.Fault] of kind ContainerFailed. What can neither be proven nor refuted is among the engine's doubts.
func Prove(b Build, gpu RequestedGPU, evidence Evidence) (Engine, error) {
	onnx := evidence.ONNXBytes
	if b.Cast {
		onnx *= 2
	}
	layers, described := ParseLayers(evidence.LayerInfo)
	e := Engine{
		TensorRT: evidence.TensorRT.String(), GPU: gpu.Name(), GPUUUID: evidence.Log.GPU.UUID, Compute: gpu.Compute,
		Bytes: evidence.PlanBytes, SHA256: evidence.PlanSHA256,
		Precision: provePrecision(b.Precision, layers, evidence.PlanBytes, onnx),
		Profile:   evidence.Log.Profile, Inputs: layers.Inputs, Outputs: layers.Outputs,
	}
	e.fillBindings(evidence.Log)
	if evidence.Log.PlanVersion != "" {
		e.TensorRT, e.ReadBack = evidence.Log.PlanVersion, true
	} else if PlanVersionArgs(evidence.TensorRT, b.Plan) != nil {
		e.Doubts = append(e.Doubts,
			"trtexec did not say which TensorRT the engine names: it is taken for that of the image, "+
				evidence.TensorRT.String())
	}
	if DescribesLayers(evidence.TensorRT) && !described {
		e.Doubts = append(e.Doubts,
			"trtexec did not describe the engine's layers: its precision is known by its size alone, "+
				"its inputs and outputs are not")
	}
	var err error
	if e.GPUBy, err = evidence.Log.GPU.Check(gpu); err != nil {
		return e, err
	}
	if e.GPUBy == "" {
		e.Doubts = append(e.Doubts,
			"it is not proven that the engine was built on a GPU that was asked for: "+evidence.Log.GPU.String())
	}
	return e, cmp.Or(
		evidence.Log.checkSize(evidence.PlanBytes), evidence.Log.checkProfile(b),
		checkVersion(evidence.Log.PlanVersion, evidence.ImageTensorRT), e.Precision.check())
}

// checkSize refuses a plan that was cut short, as by a full disk: trtexec printed the size of the engine that it built.
func (f LogFacts) checkSize(plan int64) error {
	if deviation := math.Abs(float64(plan)/mib - f.PlanMiB); f.PlanMiB == 0 || deviation <= f.PlanMiBError {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed, "a full disk is the usual reason: "+remedy.FreeCacheDisk,
		"the engine was cut: %s of %s were saved", bytesize.Format(plan), bytesize.Format(int64(f.PlanMiB*mib)))
}

// checkProfile compares the profile that trtexec built for, if it printed it, with the batches that were asked for.
func (f LogFacts) checkProfile(b Build) error {
	p := f.Profile
	if p == nil || p.Min[0] == int64(b.MinBatch) && p.Opt[0] == int64(b.OptBatch) && p.Max[0] == int64(b.MaxBatch) {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed,
		"look in its log for what it made of --minShapes, --optShapes and --maxShapes",
		"the engine was built for batches of %d to %d, best at %d; asked for was %d to %d, best at %d",
		p.Min[0], p.Max[0], p.Opt[0], b.MinBatch, b.MaxBatch, b.OptBatch)
}

// checkVersion compares the TensorRT that a plan names with that of the image. Parts that either leaves out are not
// compared.
func checkVersion(plan, image string) error {
	p, err := release.ParseVersion(plan)
	if err != nil {
		return nil //nolint:nilerr // trtexec did not print one
	}
	i, err := release.ParseVersion(image)
	if err != nil {
		return nil //nolint:nilerr // the image does not say one
	}
	if p.Build == 0 || i.Build == 0 {
		p.Build, i.Build = 0, 0
	}
	if p == i {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed, "the image holds two: use NVIDIA's plain -py3 image of a release",
		"the engine was built by TensorRT %s, and the image says that it has %s", p, i)
}
