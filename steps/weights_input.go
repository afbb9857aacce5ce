package steps

import (
	"errors"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// weightsTarget is where containers find the weights.
const weightsTarget = "/in/" + weightsFile

// weightsInput are the weights as a program in a container reads them.
type weightsInput struct {
	output pipeline.Output
	// trusted lets a PyTorch before 1.13 read the weights. Such a PyTorch has no weights_only and runs code that is in
	// a file, so that it may read only weights that dalirun made or whose hash is known. A later PyTorch reads tensors
	// alone from any file.
	trusted bool
	// userFile is the path of a user's file, of which the output is a copy; empty for other kinds.
	userFile string `fact:"-"`
}

func newWeightsInput(t target.Target, weights pipeline.Output) weightsInput {
	if t.Weights.Kind == target.File {
		return weightsInput{output: weights, userFile: t.Weights.Path}
	}
	return weightsInput{output: weights, trusted: true}
}

// arguments returns args with the arguments by which a program reads the weights.
func (i weightsInput) arguments(args ...string) []string {
	args = append([]string{"--weights", weightsTarget}, args...)
	if i.trusted {
		args = append(args, "--trusted")
	}
	return args
}

func (i weightsInput) mount(w *pipeline.Work) container.Mount {
	return container.Mount{Source: w.Input(i.output).Path, Target: weightsTarget}
}

// nameUserFile replaces the path of the copy by that of the user's file in err, the error of a program that read the
// weights.
func (i weightsInput) nameUserFile(w *pipeline.Work, err error) error {
	stored := w.Input(i.output).Path
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if ok && i.userFile != "" && strings.Contains(fault.Error(), stored) {
		fault.Err = errors.New(strings.ReplaceAll(fault.Error(), stored, i.userFile))
	}
	return err
}
