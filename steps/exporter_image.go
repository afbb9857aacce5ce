package steps

import "github.com/dalirun/dalirun/pipeline"

// newExporterImage is the image with PyTorch, torchvision and ONNX: NVIDIA's, or a small one from Debian's packages.
func newExporterImage(o Options, t Tools) pipeline.Step {
	if o.Images == NGC {
		return newPullImage(IDExporterImage, o.ExporterImage(), t)
	}
	return newBuildImage(IDExporterImage, newRecipe(o, "exporter"), t)
}

// ExporterImage is the reference of NVIDIA's image that exports: the one that was named, or the release's in the registry.
func (o Options) ExporterImage() string {
	if o.ExporterRef != "" {
		return o.ExporterRef
	}
	return o.Release.ExporterRef(o.Registry)
}
