// Package steps holds the steps of dalirun, one file each. This file is the program's table of contents.
//
// The fields of a step are what it depends on. Fields that are tagged `fact:"-"` do not change its result. All other
// fields do, and are among its facts or inputs.
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

// The IDs of the steps that a reload alone has.
const (
	IDLoadCandidate pipeline.ID = "load-candidate"
	IDReplace       pipeline.ID = "replace"
)

// IDInventory is the ID of the step that a pull alone has.
const IDInventory pipeline.ID = "inventory"

// IDRecorded is the step that a rerun from a record alone has.
const IDRecorded pipeline.ID = "recorded"

// For returns the steps of a target up to the step until. It returns none if the target has no such step.
func For(t target.Target, tools Tools, until pipeline.ID) []pipeline.Step {
	// The image with PyTorch, and the image with tritonserver.
	exporter := newExporterImage(t, tools)
	server := newServerImage(t, tools)
	// The network's weights: fetched, a file, or seeded and calibrated.
	weights := newWeights(t, tools, output(exporter))
	// PyTorch → ONNX with a dynamic batch.
	export := newExportONNX(t, tools, output(exporter), output(weights))
	list := []pipeline.Step{exporter, server, weights, export}

	model, engine := output(export), pipeline.Output{}
	if t.Lane == target.GPU {
		cast := needsCast(t)
		if cast {
			// ONNX in fp32 → fp16, where TensorRT does not cast.
			fp16 := newCastONNX(tools, output(exporter), model)
			list, model = append(list, fp16), output(fp16)
		}
		// ONNX → TensorRT engine.
		build := newBuildEngine(t, tools, output(pick(t.Release.EngineIn, server, exporter)), model, cast)
		list, model, engine = append(list, build), build.plan(), build.engine()
	}

	// The preprocessing as a serialized DALI pipeline.
	dali := newSerializeDALI(t, tools, output(pick(t.Release.DALIIn, server, exporter)))
	// Model, DALI pipeline and ensemble, laid out for Triton.
	repository := newAssembleRepository(t, model, output(dali), engine)
	// tritonserver on this repository: live, loaded, warmed up, ready.
	serve := newServe(t, tools, output(server), output(repository))
	// PyTorch's own tensor and logits for the picture.
	reference := newReference(t, tools, output(exporter), output(weights))
	// The server's answers compared with PyTorch's.
	verify := newVerify(t, tools, "", output(serve), reference.Tensor(), reference.Logits())
	list = append(list, dali, repository, serve, reference, verify)

	end := slices.IndexFunc(list, func(s pipeline.Step) bool { return s.ID() == until })
	return list[:end+1]
}

// ForReload returns the steps that put what a target builds in the place of what a server serves: proven beside it, or
// in place, and proven then.
func ForReload(t target.Target, tools Tools, r Replacement, inPlace bool) ([]pipeline.Step, error) {
	list := For(t, tools, IDAssembleRepository)
	image, repository := output(find(list, IDServerImage)), output(find(list, IDAssembleRepository))
	// PyTorch's own tensor and logits for the picture.
	reference := newReference(t, tools, output(find(list, IDExporterImage)), output(find(list, IDWeights)))
	list = append(list, reference)

	candidates, err := newCandidates(r.Folder, modelNames(t), t.ReadyTimeout)
	if err != nil {
		return nil, err
	}
	if inPlace {
		replace := newReplace(tools, r, candidates, image, repository, pipeline.Output{})
		verify := newVerify(t, tools, "", output(replace), reference.Tensor(), reference.Logits())
		return append(list, replace, verify), nil
	}
	// The new models beside those that are served.
	load := newLoadCandidate(tools, r, candidates, image, repository)
	// Their answers compared with PyTorch's.
	verify := newVerify(t, tools, candidates.suffix, output(load), reference.Tensor(), reference.Logits())
	// The new models in the place of those that are served.
	replace := newReplace(tools, r, candidates, image, repository, output(verify))
	return append(list, load, verify, replace), nil
}

// ForPull returns the steps that get what every run of a target needs first, by the same steps as the run, and say what
// there is then.
func ForPull(t target.Target, tools Tools) []pipeline.Step {
	list := For(t, tools, IDWeights)
	// Both images and the weights, which are here now.
	inventory := newInventory(t, tools, output(find(list, IDExporterImage)), output(find(list, IDServerImage)),
		output(find(list, IDWeights)))
	return append(list, inventory)
}

// ForRerun returns the steps that serve a recorded model and verify it, without what made it: the server image alone.
func ForRerun(t target.Target, tools Tools, recorded *Recorded) []pipeline.Step {
	list := For(t, tools, IDServerImage)
	server := output(find(list, IDServerImage))
	// The preprocessing as a serialized DALI pipeline.
	dali := newSerializeDALI(t, tools, server)
	// The recorded model, the DALI pipeline and the ensemble, laid out for Triton.
	repository := newAssembleRepository(t, recorded.output(onnxFile), output(dali), pipeline.Output{})
	// tritonserver on this repository: live, loaded, warmed up, ready.
	serve := newServe(t, tools, server, output(repository))
	// The server's answers compared with what PyTorch's were.
	verify := newVerify(t, tools, "", output(serve), recorded.output(tensorFile), recorded.output(logitsFile))
	return []pipeline.Step{find(list, IDServerImage), recorded, dali, repository, serve, verify}
}

// find returns the step of a list.
func find(list []pipeline.Step, id pipeline.ID) pipeline.Step {
	return list[slices.IndexFunc(list, func(s pipeline.Step) bool { return s.ID() == id })]
}

// output returns the handle of a step's only output.
func output(s pipeline.Step) pipeline.Output { return s.Outputs()[0] }

// pick returns the image step for the image that where names.
func pick(where release.Where, server, exporter pipeline.Step) pipeline.Step {
	if where == release.ExporterImage {
		return exporter
	}
	return server
}
