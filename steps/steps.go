// Package steps holds the steps of dalirun, one file each. This file is the program's table of contents.
package steps

import (
	"slices"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// The IDs of the steps, in the order of the list.
const (
	IDExporterImage      pipeline.ID = "exporter-image"
	IDServerImage        pipeline.ID = "server-image"
	IDWeights            pipeline.ID = "weights"
	IDExportONNX         pipeline.ID = "export-onnx"
	IDCastONNX           pipeline.ID = "cast-onnx"
	IDBuildEngine        pipeline.ID = "build-engine"
	IDSerializeDALI      pipeline.ID = "serialize-dali"
	IDAssembleRepository pipeline.ID = "assemble-repository"
	IDServe              pipeline.ID = "serve"
	IDReference          pipeline.ID = "reference"
	IDVerify             pipeline.ID = "verify"
)

// For returns the steps that lead to the step until.
func For(o Options, m Machine, until pipeline.ID) []pipeline.Step {
	exporter := newExporterImage(o, m)
	server := newServerImage(o, m)
	weights := newWeights(o, m, exporter)
	export := &ExportONNX{o, m, output(exporter), output(weights)}
	cast := &CastONNX{o, m, output(exporter), output(export)}
	onnx := pipeline.Step(export)
	if casts(o) {
		onnx = cast
	}
	build := &BuildEngine{o, m, output(pick(o.Release.EngineIn, server, exporter)), output(onnx)}
	model := onnx
	if o.Lane == GPU {
		model = build
	}
	dali := &SerializeDALI{o, m, output(pick(o.Release.DALIIn, server, exporter))}
	repository := &AssembleRepository{o, output(model), output(dali), build.engine()}
	serve := &Serve{o, m, output(server), output(repository)}
	reference := &Reference{o, m, output(exporter), output(weights)}
	verify := &Verify{o, m, output(serve), reference.Tensor(), reference.Logits()}

	list := []pipeline.Step{
		exporter,   // the image with PyTorch is there
		server,     // the image with tritonserver is there
		weights,    // ResNet50's weights: fetched, a file, or seeded and calibrated
		export,     // PyTorch → ONNX with a dynamic batch
		cast,       // ONNX in fp32 → fp16, where TensorRT does not cast (gpu lane)
		build,      // ONNX → TensorRT engine (gpu lane)
		dali,       // the preprocessing as a serialized DALI pipeline
		repository, // both and the ensemble, laid out for Triton
		serve,      // tritonserver on it: live, loaded, warmed up, ready
		reference,  // PyTorch's own tensor and logits for the picture
		verify,     // what is served is what PyTorch says
	}
	list = slices.DeleteFunc(list, func(s pipeline.Step) bool {
		return s.ID() == IDCastONNX && !casts(o) || s.ID() == IDBuildEngine && o.Lane == CPU
	})
	end := slices.IndexFunc(list, func(s pipeline.Step) bool { return s.ID() == until })
	return list[:end+1]
}

// output is the handle of a step that makes one thing.
func output(s pipeline.Step) pipeline.Output { return s.Outputs()[0] }

func pick(where release.Where, server, exporter pipeline.Step) pipeline.Step {
	if where == release.ExporterImage {
		return exporter
	}
	return server
}
