package steps

import (
	"context"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
)

// Reference lets PyTorch classify the picture: what it fed to the model, and the model's answer, in full precision.
type Reference struct {
	options Options
	machine Machine
	image   pipeline.Output
	weights pipeline.Output
}

const (
	tensorFile    = "tensor.f32" // little-endian FP32 [3,224,224]
	logitsFile    = "logits.f32" // little-endian FP32 [1000]
	pictureTarget = "/dalirun/picture"
)

// ID returns reference.
func (s *Reference) ID() pipeline.ID { return IDReference }

// Inputs are the exporter image and the weights.
func (s *Reference) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.weights} }

// Outputs are the tensor and the logits.
func (s *Reference) Outputs() []pipeline.Output {
	return []pipeline.Output{s.Tensor(), s.Logits()}
}

// Tensor is the preprocessed picture: little-endian FP32 [3,224,224], normalized.
func (s *Reference) Tensor() pipeline.Output {
	return pipeline.Output{Step: IDReference, Name: tensorFile}
}

// Logits are PyTorch's answer: little-endian FP32 [1000].
func (s *Reference) Logits() pipeline.Output {
	return pipeline.Output{Step: IDReference, Name: logitsFile}
}

func (s *Reference) command() []string {
	return referenceScript().command(trusted(s.options, "--weights", weightsTarget, "--image", pictureTarget, "--output-dir", outDir)...)
}

// Facts are the picture, the program and its arguments.
func (s *Reference) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	facts, err := referenceScript().facts(s.command())
	if err != nil {
		return nil, err
	}
	facts["picture"] = digest(s.options.Picture.Data)
	return facts, nil
}

// Run classifies the picture in the exporter image.
func (s *Reference) Run(ctx context.Context, w *pipeline.Work) error {
	picture := w.Path("picture")
	if err := os.WriteFile(picture, s.options.Picture.Data, 0o600); err != nil {
		return err
	}
	spec := s.machine.batchSpec(IDReference, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{
		{Source: w.Input(s.weights).Path, Target: weightsTarget},
		{Source: picture, Target: pictureTarget},
	}
	return s.machine.runScript(ctx, w, referenceScript(), spec, 10*time.Minute)
}

func referenceScript() script { return script{"reference.py", "program.py", "resnet50.py"} }
