package trtexec

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
)

// Engine is what was proven of a TensorRT engine: the content of engine.json, beside the plan. Fields that its TensorRT
// does not print or export are left out.
type Engine struct {
	TensorRT string `json:"tensorrt"`
	// ReadBack says that the plan itself names this TensorRT; else it is what the image says of itself.
	ReadBack  bool           `json:"tensorrt_read_back"`
	GPU       string         `json:"gpu"`                // the requested one: [RequestedGPU.Name]
	GPUUUID   string         `json:"gpu_uuid,omitempty"` // of the GPU that trtexec selected
	GPUBy     GPUProof       `json:"gpu_by,omitempty"`   // empty where it is not proven
	Compute   string         `json:"compute,omitempty"`
	Precision PrecisionProof `json:"precision"`
	Inputs    []Binding      `json:"inputs,omitempty"`
	Outputs   []Binding      `json:"outputs,omitempty"`
	Profile   *Profile       `json:"profile,omitempty"`
	Bytes     int64          `json:"bytes"`
	SHA256    string         `json:"sha256"` // hexadecimal
	// what is not proven, each with why: a warning of every run that uses the engine
	Doubts []string `json:"doubts,omitempty"`
}

// Profile is the range of shapes that an engine takes, and the shape that it is tuned for. Each shape is the batch,
// then the dimensions of a picture.
type Profile struct {
	Input string  `json:"input"`
	Min   []int64 `json:"min"`
	Opt   []int64 `json:"opt"`
	Max   []int64 `json:"max"`
}

func (e Engine) String() string {
	parts := []string{e.Precision.String(), "TensorRT " + e.TensorRT}
	if p := e.Profile; p != nil {
		parts = append(parts, fmt.Sprintf("batch %d/%d/%d", p.Min[0], p.Opt[0], p.Max[0]))
	}
	return strings.Join(append(parts, bytesize.Format(e.Bytes)), ", ")
}

// fillBindings completes inputs and outputs that the layers do not describe by the arguments that trtexec printed.
func (e *Engine) fillBindings(f LogFacts) {
	if len(e.Inputs) == 0 && f.Profile != nil {
		e.Inputs = []Binding{{Name: f.Profile.Input}}
	}
	for _, side := range []struct {
		bindings []Binding
		format   string
	}{{e.Inputs, f.InputFormat}, {e.Outputs, f.OutputFormat}} {
		name, _, _ := strings.Cut(side.format, ":")
		for i := range side.bindings {
			if side.bindings[i].Type == "" {
				side.bindings[i].Type = map[string]string{"fp32": typeFP32, "fp16": typeFP16}[name]
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

// ReadEngine reads what [Engine.WriteFile] wrote.
func ReadEngine(name string) (e Engine, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read what is known of the engine: %w", err)
	}
	return e, nil
}

// WriteFile writes the engine as indented JSON.
func (e Engine) WriteFile(name string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o600)
}
