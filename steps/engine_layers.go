package steps

import (
	"encoding/json"
	"strings"
)

// layers are what trtexec's --exportLayerInfo says of an engine.
type layers struct {
	Tensors, Weights halves
	Untold           int      // tensors whose type is not told
	Bindings         []string // names of inputs and outputs, in TensorRT's order
	inputs, outputs  map[string]Binding
}

// halves counts things of floating point: those in half precision, and all.
type halves struct{ Half, All int }

func (h *halves) count(kind string) {
	switch kind {
	case fp16:
		h.Half++
	case fp32, otherFloat:
	default:
		return
	}
	h.All++
}

// Binding is a tensor that a caller of an engine sees.
type Binding struct {
	Name string  `json:"name"`
	Type string  `json:"type,omitempty"` // FP32, FP16, …; empty where the TensorRT does not tell
	Dims []int64 `json:"dims,omitempty"` // the batch first, -1 where it can vary
}

// The types of tensors, named as in Triton's configurations.
const (
	fp32       = "FP32"
	fp16       = "FP16"
	otherFloat = "BF16"
)

// described is a layer as it is exported with detailed verbosity.
type described struct {
	Inputs, Outputs []tensor
	Weights, Bias   struct{ Type string }
}

type tensor struct {
	Name       string
	Dimensions []int64
	Format     string `json:"Format/Datatype"`
}

// parseLayers reads the export. ok is false where it describes nothing: names alone, as without detailed verbosity, or no JSON, as of
// figures that are not finite.
func parseLayers(data []byte) (l layers, ok bool) {
	var file struct {
		Layers   []json.RawMessage
		Bindings []string
	}
	if json.Unmarshal(data, &file) != nil {
		return layers{}, false
	}
	l = layers{Bindings: file.Bindings, inputs: map[string]Binding{}, outputs: map[string]Binding{}}
	for _, raw := range file.Layers {
		var d described
		if json.Unmarshal(raw, &d) != nil {
			continue // a name
		}
		l.add(d)
		ok = true
	}
	return l, ok
}

func (l *layers) add(d described) {
	for _, t := range d.Inputs {
		l.count(t)
		l.inputs[t.Name] = t.binding()
	}
	for _, t := range d.Outputs {
		l.count(t)
		l.outputs[t.Name] = t.binding()
	}
	l.Weights.count(tensor{Format: d.Weights.Type}.kind())
}

func (l *layers) count(t tensor) {
	l.Tensors.count(t.kind())
	if t.kind() == "" {
		l.Untold++
	}
}

func (t tensor) binding() Binding { return Binding{t.Name, t.kind(), t.Dimensions} }

// kind is the type of a tensor from its format. TensorRT 10 says "Half"; earlier ones "Two wide channel vectorized row major FP16 format"
// or "Row major linear FP32"; several say "N/A due to dynamic shapes" of every tensor of an engine with a profile.
func (t tensor) kind() string {
	has := func(word string) bool { return strings.Contains(t.Format, word) }
	switch {
	case has("BFloat16") || has("BF16"):
		return otherFloat
	case has("Half") || has("FP16"):
		return fp16
	case has("Float") || has("FP32"):
		return fp32
	case has("Int64") || has("INT64"):
		return "INT64"
	case has("Int32") || has("INT32"):
		return "INT32"
	default:
		return ""
	}
}

// io returns what a caller sees of the engine: what the bindings are to the layers. Without bindings both are empty.
func (l *layers) io() (inputs, outputs []Binding) {
	for _, name := range l.Bindings {
		if b, made := l.outputs[name]; made {
			outputs = append(outputs, b)
		} else if b, read := l.inputs[name]; read {
			inputs = append(inputs, b)
		}
	}
	return inputs, outputs
}
