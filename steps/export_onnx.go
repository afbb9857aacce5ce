package steps

import (
	"context"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
)

// ExportONNX exports ResNet50 from PyTorch to ONNX: `input` FP32 [N,3,224,224] → `output` FP32 [N,1000].
type ExportONNX struct {
	options Options
	tools   Tools
	image   pipeline.Output
	weights pipeline.Output
}

const (
	onnxFile = "model.onnx"
	// weightsTarget is where containers find the weights.
	weightsTarget = "/in/" + weightsFile
)

// ID returns export-onnx.
func (s *ExportONNX) ID() pipeline.ID { return IDExportONNX }

// Inputs are the exporter image and the weights.
func (s *ExportONNX) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.weights} }

// Outputs are the ONNX model.
func (s *ExportONNX) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDExportONNX, Name: onnxFile}}
}

func (s *ExportONNX) command() []string {
	return exportScript().command(trusted(s.options, "--weights", weightsTarget, "--output", outDir+"/"+onnxFile)...)
}

// trusted lets a PyTorch before 1.13, which has no weights_only and would run the code in a file, read weights that were made here or whose
// whole hash is known. Others read tensors alone, whosever the file is.
func trusted(o Options, args ...string) []string {
	if o.Weights.Kind == File {
		return args
	}
	return append(args, "--trusted")
}

// Facts are the program and its arguments.
func (s *ExportONNX) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return exportScript().facts(s.command())
}

// Run exports the model in the exporter image.
func (s *ExportONNX) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.tools.batchSpec(IDExportONNX, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{{Source: w.Input(s.weights).Path, Target: weightsTarget}}
	return ownWeights(s.options, w.Input(s.weights).Path, s.tools.runScript(ctx, w, exportScript(), spec, 15*time.Minute))
}

func exportScript() script { return script{"export_onnx.py", "program.py", "resnet50.py"} }
