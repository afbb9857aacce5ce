package steps

import "github.com/dalirun/dalirun/pipeline"

// newExporterImage is the image with PyTorch, torchvision and ONNX: NVIDIA's, or a small one from Debian's packages.
func newExporterImage(o Options, m Machine) pipeline.Step {
	if o.Images == NGC {
		return &PullImage{id: IDExporterImage, ref: o.Release.ExporterRef(o.Registry), machine: m}
	}
	return &BuildImage{id: IDExporterImage, recipe: newRecipe(o, "exporter"), machine: m}
}
