package steps

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/triton/pb"
)

// fillTypes completes what the layers do not tell of inputs and outputs by what trtexec said of its arguments.
func (f buildFacts) fillTypes(e *Engine) {
	if len(e.Inputs) == 0 && f.Profile != nil {
		e.Inputs = []Binding{{Name: f.Profile.Input}}
	}
	for i, list := range [][]Binding{e.Inputs, e.Outputs} {
		kind := map[string]string{"fp32": fp32, "fp16": fp16}[strings.SplitN(f.IOFormats[i], ":", 2)[0]]
		for j := range list {
			if list[j].Type == "" {
				list[j].Type = kind
			}
		}
	}
	for i := range e.Inputs {
		if p := f.Profile; p != nil && e.Inputs[i].Name == p.Input && e.Inputs[i].Dims == nil {
			e.Inputs[i].Dims = slices.Clone(p.Max)
			e.Inputs[i].Dims[0] = -1
		}
	}
}

// fits says where a model's configuration is not that of the engine. Triton itself loads a model whose dimensions are not the plan's, and is
// ready with it. What is not known of the engine is not compared.
func (e Engine) fits(c *pb.ModelConfig) error {
	var errs []error
	in := make([]Binding, len(c.GetInput()))
	for i, t := range c.GetInput() {
		in[i] = configured(t.GetName(), t.GetDataType(), t.GetDims())
	}
	out := make([]Binding, len(c.GetOutput()))
	for i, t := range c.GetOutput() {
		out[i] = configured(t.GetName(), t.GetDataType(), t.GetDims())
	}
	errs = append(errs, same("input", in, e.Inputs), same("output", out, e.Outputs))
	if p := e.Profile; p != nil && int64(c.GetMaxBatchSize()) > p.Max[0] {
		errs = append(errs, fmt.Errorf("max_batch_size is %d, and the engine takes %s at most", c.GetMaxBatchSize(), printable.Count(p.Max[0], "picture")))
	}
	return errors.Join(errs...)
}

// configured is a tensor of a configuration, which leaves out the batch.
func configured(name string, kind pb.DataType, dims []int64) Binding {
	return Binding{name, strings.TrimPrefix(kind.String(), "TYPE_"), append([]int64{-1}, dims...)}
}

// same compares the tensors of a configuration with those of the engine, as far as those are known.
func same(what string, configured, engine []Binding) error {
	if len(engine) == 0 {
		return nil
	}
	if len(configured) != len(engine) {
		return fmt.Errorf("the configuration has %s, and the engine %d", printable.Count(len(configured), what), len(engine))
	}
	for _, c := range configured {
		i := slices.IndexFunc(engine, func(e Binding) bool { return e.Name == c.Name })
		if i < 0 {
			return fmt.Errorf("the %s %q is configured, and the engine has %q", what, c.Name, engine[0].Name)
		}
		if e := engine[i]; e.Type != "" && e.Type != c.Type || len(e.Dims) > 0 && !slices.Equal(e.Dims[1:], c.Dims[1:]) { // the profile answers for the batch
			return fmt.Errorf("the %s %q is configured as %s%v, and the engine's is %s%v", what, c.Name, c.Type, c.Dims, e.Type, e.Dims)
		}
	}
	return nil
}
