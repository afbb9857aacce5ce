// Package steps holds the steps of dalirun, one file each. This file is the program's table of contents.
//
// What a step depends on is its fields. Those that are tagged `fact:"-"` only do the work: whatever they are, the
// result is the same. All others decide it, and are found among its facts or inputs.
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

// For returns the steps that lead to the step until: none where the run lacks that.
func For(o Options, t Tools, until pipeline.ID) []pipeline.Step {
	// The image with PyTorch is there, and the one with tritonserver.
	exporter := newExporterImage(o, t)
	server := newServerImage(o, t)
	// ResNet50's weights: fetched, a file, or seeded and calibrated.
	weights := newWeights(o, t, output(exporter))
	// PyTorch → ONNX with a dynamic batch.
	export := newExportONNX(o, t, output(exporter), output(weights))
	list := []pipeline.Step{exporter, server, weights, export}

	model, engine := output(export), pipeline.Output{}
	if o.Lane == GPU {
		cast := needsCast(o)
		if cast {
			// ONNX in fp32 → fp16, where TensorRT does not cast.
			fp16 := newCastONNX(t, output(exporter), model)
			list, model = append(list, fp16), output(fp16)
		}
		// ONNX → TensorRT engine.
		build := newBuildEngine(o, t, output(pick(o.Release.EngineIn, server, exporter)), model, cast)
		list, model, engine = append(list, build), build.plan(), build.engine()
	}

	// The preprocessing as a serialized DALI pipeline.
	dali := newSerializeDALI(o, t, output(pick(o.Release.DALIIn, server, exporter)))
	// Both and the ensemble, laid out for Triton.
	repository := newAssembleRepository(o, model, output(dali), engine)
	// tritonserver on it: live, loaded, warmed up, ready.
	serve := newServe(o, t, output(server), output(repository))
	// PyTorch's own tensor and logits for the picture.
	reference := newReference(o, t, output(exporter), output(weights))
	// What is served is what PyTorch says.
	verify := newVerify(o, output(serve), reference.Tensor(), reference.Logits())
	list = append(list, dali, repository, serve, reference, verify)

	end := slices.IndexFunc(list, func(s pipeline.Step) bool { return s.ID() == until })
	return list[:end+1]
}

// output is the handle of a step that makes one thing.
func output(s pipeline.Step) pipeline.Output { return s.Outputs()[0] }

// pick is the image step of a release whose image has what is looked for.
func pick(where release.Where, server, exporter pipeline.Step) pipeline.Step {
	if where == release.ExporterImage {
		return exporter
	}
	return server
}
