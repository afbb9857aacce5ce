package steps

import (
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// newExporterImage is the image with PyTorch, torchvision and ONNX: NVIDIA's, or a small one from Debian's packages.
func newExporterImage(t target.Target, tools Tools) pipeline.Step {
	if t.Source == target.NGC {
		return newPullImage(IDExporterImage, t.Images.Exporter, tools)
	}
	return newBuildImage(IDExporterImage, t, lock.Exporter, tools)
}
