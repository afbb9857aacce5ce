package steps

import "github.com/dalirun/dalirun/pipeline"

// newServerImage is the image with tritonserver and DALI: NVIDIA's, or a small one from PyPI's packages.
func newServerImage(o Options, t Tools) pipeline.Step {
	if o.Images == NGC {
		return newPullImage(IDServerImage, o.ServerImage(), t)
	}
	return newBuildImage(IDServerImage, newRecipe(o, "server"), t)
}

// ServerImage is the reference of NVIDIA's image that serves: the one that was named, or the release's in the registry.
func (o Options) ServerImage() string {
	if o.ServerRef != "" {
		return o.ServerRef
	}
	return o.Release.ServerRef(o.Registry)
}
