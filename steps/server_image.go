package steps

import "github.com/dalirun/dalirun/pipeline"

// newServerImage is the image with tritonserver and DALI: NVIDIA's, or a small one from PyPI's packages.
func newServerImage(o Options, m Machine) pipeline.Step {
	if o.Images == NGC {
		return &PullImage{id: IDServerImage, ref: o.Release.ServerRef(o.Registry), machine: m}
	}
	return &BuildImage{id: IDServerImage, recipe: newRecipe(o, "server"), machine: m}
}
