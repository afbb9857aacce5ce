package steps

import (
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// newServerImage is the image with tritonserver and DALI: NVIDIA's, or a small one from PyPI's packages.
func newServerImage(t target.Target, with Tools) pipeline.Step {
	if t.Source == target.NGC {
		return newPullImage(IDServerImage, t.Images.Server.Ref, with)
	}
	return newBuildImage(IDServerImage, newImageBuild(t, with, "server"), with)
}
