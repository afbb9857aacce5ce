package steps

import "github.com/dalirun/dalirun/pipeline"

// newServerImage is the image with tritonserver and DALI: NVIDIA's, or a small one from PyPI's packages.
func newServerImage(o Options, m Machine) pipeline.Step {
	if o.Images == NGC {
		return &PullImage{imageStep{IDServerImage, m}, o.Release.ServerRef(o.Registry)}
	}
	return &BuildImage{imageStep{IDServerImage, m}, newRecipe(o, "server")}
}
