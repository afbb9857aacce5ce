package steps

import (
	"context"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// CastONNX casts the ONNX model to fp16, for a TensorRT that builds each layer in the model's own precision. Input and
// output of the model stay FP32, so that it is served alike.
type CastONNX struct {
	image pipeline.Output
	onnx  pipeline.Output

	containers containers `fact:"-"`
}

func newCastONNX(t Tools, exporter, onnx pipeline.Output) *CastONNX {
	return &CastONNX{image: exporter, onnx: onnx, containers: newContainers(t)}
}

// needsCast reports whether the engine is built from a cast model. Where the TensorRT is not known before its image is
// pulled, the model is not cast, and build-engine refuses an engine that would silently be fp32.
func needsCast(t target.Target) bool {
	return t.Precision == release.FP16 && trtexec.NeedsCast(t.Release.TensorRTVersion())
}

// ID returns cast-onnx.
func (s *CastONNX) ID() pipeline.ID { return IDCastONNX }

// Inputs are the image with NVIDIA's AutoCast and the ONNX model.
func (s *CastONNX) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.onnx} }

// Outputs are the ONNX model in fp16.
func (s *CastONNX) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDCastONNX, Name: onnxFile}}
}

func (s *CastONNX) command() []string {
	return castScript().command("--model", onnxTarget, "--output", outDir+"/"+onnxFile)
}

// Facts are the program and its arguments.
func (s *CastONNX) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return castScript().facts(s.command())
}

// Run casts the model in the exporter image. It takes 6 s on two cores.
func (s *CastONNX) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.containers.spec(IDCastONNX, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{{Source: w.Input(s.onnx).Path, Target: onnxTarget}}
	return s.containers.runScript(ctx, w, castScript(), spec, 15*time.Minute)
}

func castScript() script { return script{"cast_onnx.py", "program.py"} }
