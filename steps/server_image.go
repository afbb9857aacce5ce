package steps

import (
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// newServerImage is the image with tritonserver and DALI: NVIDIA's, or a small one from PyPI's packages.
func newServerImage(t target.Target, tools Tools) pipeline.Step {
	if t.Source == target.NGC {
		return newPullImage(IDServerImage, t.Images.Server, tools)
	}
	return newBuildImage(IDServerImage, t, lock.Server, tools)
}

// ServerImage returns what identifies the image of a target's server, as its step last found it; empty if it never did.
func ServerImage(t target.Target, tools Tools) string {
	ref := t.Images.Server.Ref
	if t.Source != target.NGC {
		ref = newImageBuild(t, tools, lock.Server).tag()
	}
	id, _ := tools.KV.Recall(identityKey(ref))
	return id
}
