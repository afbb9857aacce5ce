package steps

import (
	"context"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// ExportONNX exports the network from PyTorch to ONNX: `input` FP32 [N,3,size,size] → `output` FP32 [N,classes].
type ExportONNX struct {
	image   pipeline.Output
	weights weightsInput
	network []string // arguments by which the program knows it

	containers containers `fact:"-"`
}

func newExportONNX(t target.Target, tools Tools, exporter, weights pipeline.Output) *ExportONNX {
	return &ExportONNX{
		image: exporter, weights: newWeightsInput(t, weights), network: networkArguments(t.Recipe),
		containers: newContainers(tools),
	}
}

const onnxFile = "model.onnx"

// ExportedModel returns the path of the ONNX model, by the values of its step, which is export-onnx.
func ExportedModel(values pipeline.Values) string { return values[onnxFile].Path }

// ID returns export-onnx.
func (s *ExportONNX) ID() pipeline.ID { return IDExportONNX }

// Inputs are the exporter image and the weights.
func (s *ExportONNX) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.weights.output} }

// Outputs are the ONNX model.
func (s *ExportONNX) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDExportONNX, Name: onnxFile}}
}

func (s *ExportONNX) command() []string {
	return exportScript().command(
		s.weights.arguments(slices.Concat(s.network, []string{"--output", outDir + "/" + onnxFile})...)...)
}

// Facts are the program and its arguments.
func (s *ExportONNX) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return exportScript().facts(s.command())
}

// Run exports the model in the exporter image.
func (s *ExportONNX) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.containers.spec(IDExportONNX, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{s.weights.mount(w)}
	return s.weights.nameUserFile(w, s.containers.runScript(ctx, w, exportScript(), spec, 15*time.Minute))
}

func exportScript() script { return script{"export_onnx.py", "program.py", "network.py"} }
