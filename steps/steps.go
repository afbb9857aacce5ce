// Package steps holds the steps of dalirun, one file each. This file is the program's table of contents.
//
// What a step depends on is its fields. Those that are tagged `fact:"-"` only do the work: whatever they are, the
// result is the same. All others decide it, and are found among its facts or inputs.
package steps

import (
	"slices"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
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
func For(t target.Target, with Tools, until pipeline.ID) []pipeline.Step {
	// The image with PyTorch is there, and the one with tritonserver.
	exporter := newExporterImage(t, with)
	server := newServerImage(t, with)
	// ResNet50's weights: fetched, a file, or seeded and calibrated.
	weights := newWeights(t, with, output(exporter))
	// PyTorch → ONNX with a dynamic batch.
	export := newExportONNX(t, with, output(exporter), output(weights))
	list := []pipeline.Step{exporter, server, weights, export}

	model, engine := output(export), pipeline.Output{}
	if t.Lane == target.GPU {
		cast := needsCast(t)
		if cast {
			// ONNX in fp32 → fp16, where TensorRT does not cast.
			fp16 := newCastONNX(with, output(exporter), model)
			list, model = append(list, fp16), output(fp16)
		}
		// ONNX → TensorRT engine.
		build := newBuildEngine(t, with, output(pick(t.Release.EngineIn, server, exporter)), model, cast)
		list, model, engine = append(list, build), build.plan(), build.engine()
	}

	// The preprocessing as a serialized DALI pipeline.
	dali := newSerializeDALI(t, with, output(pick(t.Release.DALIIn, server, exporter)))
	// Both and the ensemble, laid out for Triton.
	repository := newAssembleRepository(t, model, output(dali), engine)
	// tritonserver on it: live, loaded, warmed up, ready.
	serve := newServe(t, with, output(server), output(repository))
	// PyTorch's own tensor and logits for the picture.
	reference := newReference(t, with, output(exporter), output(weights))
	// What is served is what PyTorch says.
	verify := newVerify(t, with, output(serve), reference.Tensor(), reference.Logits())
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
