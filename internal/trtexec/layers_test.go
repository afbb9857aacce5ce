package trtexec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// TestRecordedLayers reads what trtexec 10.6 exported of two engines: of some 4,400 lines each, these are all that is read. The tensors are as
// many by another program: jq '[.Layers[] | (.Inputs + .Outputs)[] | .["Format/Datatype"]] | group_by(.) | map({(.[0]): length})'. Of the weights 53 are
// those of layers; the other 47 are of constants, whose key is "weights": encoding/json takes it for "Weights".
func TestRecordedLayers(t *testing.T) {
	t.Parallel()
	inputs := []trtexec.Binding{{Name: "input", Type: "FP32", Dims: []int64{-1, 3, 224, 224}}}
	outputs := []trtexec.Binding{{Name: "output", Type: "FP32", Dims: []int64{-1, 1000}}}
	for name, want := range map[string]trtexec.Layers{
		"trtexec-10.6-layers-fp16.json": {
			Tensors: trtexec.TypeCount{"FP16": 320, "FP32": 2, "INT64": 2},
			Weights: trtexec.TypeCount{"FP16": 53, "FP32": 47},
			Inputs:  inputs, Outputs: outputs,
		},
		"trtexec-10.6-layers-fp32.json": {
			Tensors: trtexec.TypeCount{"FP32": 324},
			Weights: trtexec.TypeCount{"FP32": 100},
			Inputs:  inputs, Outputs: outputs,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := trtexec.ParseLayers([]byte(tooltest.Output(name)))
			if diff := cmp.Diff(want, got); diff != "" || !ok {
				t.Errorf("it describes layers: %t (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// TestParseLayers reads the words of other TensorRTs, and exports that describe nothing.
func TestParseLayers(t *testing.T) {
	t.Parallel()
	const shape = `"Dimensions": [-1, 8]`
	layer := func(input, output, weights string) string {
		return `{"Inputs": [{"Name": "a", ` + shape + `, "Format/Datatype": "` + input + `"}], "Outputs": [{"Name": "b", ` + shape +
			`, "Format/Datatype": "` + output + `"}], "Weights": {"Type": "` + weights + `"}}`
	}
	file := func(layers ...string) string {
		return `{"Layers": [` + strings.Join(layers, ", ") + `], "Bindings": ["b", "a", "not there"]}`
	}
	type count = trtexec.TypeCount
	tests := map[string]struct {
		export           string
		described        bool
		tensors, weights count
		input, output    string // their types
	}{
		"TensorRT 10": {file(layer("Float", "Half", "Half")), true, count{"FP32": 1, "FP16": 1}, count{"FP16": 1}, "FP32", "FP16"},
		"TensorRT 8": {
			file(layer("Row major linear FP32", "Two wide channel vectorized row major FP16 format", "Float")), true,
			count{"FP32": 1, "FP16": 1},
			count{"FP32": 1},
			"FP32", "FP16",
		},
		"channels":       {file(layer("Channel major FP16 format where channel % 8 == 0", "Row major linear FP32 format", "Half")), true, count{"FP32": 1, "FP16": 1}, count{"FP16": 1}, "FP16", "FP32"},
		"hidden":         {file(layer("N/A due to dynamic shapes", "N/A due to dynamic shapes", "Half")), true, count{"": 2}, count{"FP16": 1}, "", ""},
		"BF16, no float": {file(layer("BFloat16", "Row major BF16", "BFloat16")), true, count{"BF16": 2}, count{"BF16": 1}, "BF16", "BF16"},
		"integers":       {file(layer("Int32", "INT64", "Int8")), true, count{"INT32": 1, "INT64": 1}, count{"": 1}, "INT32", "INT64"},
		"integers, old":  {file(layer("Row major INT32", "Int64", "")), true, count{"INT32": 1, "INT64": 1}, count{}, "INT32", "INT64"},
		"two layers, a name between": {
			file(layer("Float", "Float", "Float"), `"conv"`, layer("Float", "Half", "")), true, count{"FP32": 3, "FP16": 1}, count{"FP32": 1}, "FP32", "FP16",
		},
		"names alone": {file(`"conv"`, `"fc"`), false, count{}, count{}, "", ""},
		"no layer":    {`{"Layers": [], "Bindings": ["a"]}`, false, count{}, count{}, "", ""},
		"no JSON":     {`{"Layers": [{"Scale": -inf}]}`, false, nil, nil, "", ""},
		"nothing":     {"", false, nil, nil, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := trtexec.Layers{Tensors: tt.tensors, Weights: tt.weights}
			if tt.described {
				want.Inputs = []trtexec.Binding{{Name: "a", Type: tt.input, Dims: []int64{-1, 8}}}
				want.Outputs = []trtexec.Binding{{Name: "b", Type: tt.output, Dims: []int64{-1, 8}}}
			}
			got, ok := trtexec.ParseLayers([]byte(tt.export))
			if diff := cmp.Diff(want, got); diff != "" || ok != tt.described {
				t.Errorf("it describes layers: %t, want %t (-want +got):\n%s", ok, tt.described, diff)
			}
		})
	}
	if floats := (count{"FP32": 1, "FP16": 2, "BF16": 4, "INT32": 8, "": 16}).Float(); floats != 7 {
		t.Errorf("%d are of floating point", floats)
	}
}
