package steps

import "github.com/dalirun/dalirun/pipeline"

// newExporterImage is the image with PyTorch, torchvision and ONNX: NVIDIA's, or a small one from Debian's packages.
func newExporterImage(o Options, m Machine) pipeline.Step {
	if o.Images == NGC {
		return &PullImage{imageStep{IDExporterImage, m}, o.Release.ExporterRef(o.Registry)}
	}
	return &BuildImage{imageStep{IDExporterImage, m}, newRecipe(o, "exporter")}
}
