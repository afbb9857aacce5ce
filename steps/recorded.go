package steps

import (
	"context"

	"github.com/dalirun/dalirun/pipeline"
)

// Recorded is what the record of a run has in the place of the steps that made it: the ONNX model, and PyTorch's tensor
// and logits for the picture.
type Recorded struct {
	Model, Tensor, Logits string // paths
}

// ID returns recorded.
func (s *Recorded) ID() pipeline.ID { return IDRecorded }

// Inputs are none.
func (s *Recorded) Inputs() []pipeline.Output { return nil }

// Outputs are the model, the tensor and the logits, as of export-onnx and reference.
func (s *Recorded) Outputs() []pipeline.Output {
	return []pipeline.Output{s.output(onnxFile), s.output(tensorFile), s.output(logitsFile)}
}

func (s *Recorded) output(name string) pipeline.Output {
	return pipeline.Output{Step: IDRecorded, Name: name}
}

// Observe says that they are there.
func (s *Recorded) Observe(ctx context.Context, _ pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	values := pipeline.Values{}
	for name, file := range map[string]string{onnxFile: s.Model, tensorFile: s.Tensor, logitsFile: s.Logits} {
		_, sum, err := fileSum(ctx, file)
		if err != nil {
			return pipeline.State{}, nil, err
		}
		values[name] = pipeline.Value{Path: file, Digest: "sha256:" + sum}
	}
	return pipeline.State{Present: true}, values, nil
}

// Run gives what Observe found.
func (s *Recorded) Run(ctx context.Context, w *pipeline.Work) error {
	_, values, err := s.Observe(ctx, nil)
	for name, value := range values {
		w.Set(name, value)
	}
	return err
}
