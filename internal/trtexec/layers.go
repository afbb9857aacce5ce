package trtexec

import (
	"encoding/json"
	"strings"
)

// The types of tensors and weights, named as in Triton's configurations.
const (
	typeFP32  = "FP32"
	typeFP16  = "FP16"
	typeBF16  = "BF16"
	typeINT32 = "INT32"
	typeINT64 = "INT64"
)

// Layers are the parts of an engine that trtexec's --exportLayerInfo describes.
type Layers struct {
	Tensors TypeCount // the inputs and outputs of all layers
	Weights TypeCount // the layers that have weights
	// Inputs and Outputs are those of the engine, in TensorRT's order. Both are empty where the export names no
	// bindings.
	Inputs, Outputs []Binding
}

// TypeCount counts tensors or layers by type: FP32, FP16, BF16, INT32 or INT64. Those of another type, or whose type
// TensorRT hides, are counted under the empty string.
type TypeCount map[string]int

// Float returns the count of all floating-point types.
func (c TypeCount) Float() int { return c[typeFP32] + c[typeFP16] + c[typeBF16] }

// Binding is a tensor that a caller of an engine sees.
type Binding struct {
	Name string  `json:"name"`
	Type string  `json:"type,omitempty"` // FP32, FP16, …; empty where TensorRT hides it
	Dims []int64 `json:"dims,omitempty"` // the batch first, -1 where it can vary
}

// exportedLayer is a layer as it is exported with detailed verbosity.
type exportedLayer struct {
	Inputs, Outputs []exportedTensor
	Weights         struct{ Type string }
	// A constant has "weights", which encoding/json takes for Weights unless they have a field of their own.
	Constant struct{ Type string } `json:"weights"`
}

type exportedTensor struct {
	Name       string
	Dimensions []int64
	Format     string `json:"Format/Datatype"`
}

func (t exportedTensor) binding() Binding { return Binding{t.Name, typeOf(t.Format), t.Dimensions} }

// ParseLayers reads the JSON of --exportLayerInfo. ok is false if it describes no layer: without detailed verbosity it
// holds names alone, and with figures that are not finite it is not JSON.
func ParseLayers(data []byte) (l Layers, ok bool) {
	var file struct {
		Layers   []json.RawMessage
		Bindings []string
	}
	if json.Unmarshal(data, &file) != nil {
		return Layers{}, false
	}
	l = Layers{Tensors: TypeCount{}, Weights: TypeCount{}}
	inputs, outputs := map[string]Binding{}, map[string]Binding{}
	for _, raw := range file.Layers {
		var layer exportedLayer
		if json.Unmarshal(raw, &layer) != nil {
			continue // a name
		}
		ok = true
		l.count(layer.Inputs, inputs)
		l.count(layer.Outputs, outputs)
		if layer.Weights.Type != "" {
			l.Weights[typeOf(layer.Weights.Type)]++
		}
	}
	for _, name := range file.Bindings {
		if b, isOutput := outputs[name]; isOutput {
			l.Outputs = append(l.Outputs, b)
		} else if b, isInput := inputs[name]; isInput {
			l.Inputs = append(l.Inputs, b)
		}
	}
	return l, ok
}

// count counts tensors, and puts them into byName.
func (l *Layers) count(tensors []exportedTensor, byName map[string]Binding) {
	for _, t := range tensors {
		l.Tensors[typeOf(t.Format)]++
		byName[t.Name] = t.binding()
	}
}

// typeOf is the type in a tensor's format. TensorRT 10 writes "Half"; earlier ones "Two wide channel vectorized row
// major FP16 format" or "Row major linear FP32"; several write "N/A due to dynamic shapes" for every tensor of an
// engine with a profile.
func typeOf(format string) string {
	contains := func(word string) bool { return strings.Contains(format, word) }
	switch {
	case contains("BFloat16") || contains("BF16"):
		return typeBF16
	case contains("Half") || contains("FP16"):
		return typeFP16
	case contains("Float") || contains("FP32"):
		return typeFP32
	case contains("Int64") || contains("INT64"):
		return typeINT64
	case contains("Int32") || contains("INT32"):
		return typeINT32
	default:
		return ""
	}
}
