package steps

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/triton/pb"
)

// checkConfiguration returns the differences of a model's configuration from the engine. Triton itself loads a model
// whose configured dimensions are not the plan's, and is ready with it. Properties that are not known of the engine are
// not compared.
func checkConfiguration(c *pb.ModelConfig, e trtexec.Engine) error {
	var errs []error
	in := make([]trtexec.Binding, len(c.GetInput()))
	for i, t := range c.GetInput() {
		in[i] = configuredBinding(t.GetName(), t.GetDataType(), t.GetDims())
	}
	out := make([]trtexec.Binding, len(c.GetOutput()))
	for i, t := range c.GetOutput() {
		out[i] = configuredBinding(t.GetName(), t.GetDataType(), t.GetDims())
	}
	errs = append(errs, checkBindings("input", in, e.Inputs), checkBindings("output", out, e.Outputs))
	if p := e.Profile; p != nil && int64(c.GetMaxBatchSize()) > p.Max[0] {
		errs = append(errs, fmt.Errorf("max_batch_size is %d, and the engine takes %s at most", c.GetMaxBatchSize(),
			printable.Count(p.Max[0], "picture")))
	}
	return errors.Join(errs...)
}

// configuredBinding returns a configured tensor as a binding. A configuration leaves out the batch.
func configuredBinding(name string, kind pb.DataType, dims []int64) trtexec.Binding {
	return trtexec.Binding{
		Name: name, Type: strings.TrimPrefix(kind.String(), "TYPE_"),
		Dims: append([]int64{-1}, dims...),
	}
}

// checkBindings compares the configured tensors with the engine's, as far as these are known. side is input or output.
func checkBindings(side string, configured, engine []trtexec.Binding) error {
	if len(engine) == 0 {
		return nil
	}
	if len(configured) != len(engine) {
		return fmt.Errorf("the configuration has %s, and the engine %d", printable.Count(len(configured), side),
			len(engine))
	}
	for _, c := range configured {
		i := slices.IndexFunc(engine, func(e trtexec.Binding) bool { return e.Name == c.Name })
		if i < 0 {
			return fmt.Errorf("the %s %q is configured, and the engine has %q", side, c.Name, engine[0].Name)
		}
		// the batch is the profile's
		if e := engine[i]; e.Type != "" && e.Type != c.Type ||
			len(e.Dims) > 0 && !slices.Equal(e.Dims[1:], c.Dims[1:]) {
			return fmt.Errorf("the %s %q is configured as %s%v, and the engine's is %s%v", side, c.Name, c.Type, c.Dims,
				e.Type, e.Dims)
		}
	}
	return nil
}
