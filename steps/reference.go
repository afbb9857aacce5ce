package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
)

// Reference lets PyTorch classify the picture: what it fed to the model, and the model's answer, in full precision.
type Reference struct {
	options Options
	tools   Tools
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
	spec := s.tools.batchSpec(IDReference, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{
		{Source: w.Input(s.weights).Path, Target: weightsTarget},
		{Source: picture, Target: pictureTarget},
	}
	last := &tail{read: func(line string) { s.tell(w, line) }}
	return s.ownPicture(picture, s.tools.readScript(ctx, w, referenceScript(), spec, last, 10*time.Minute))
}

// tell warns where nobody looked for what libjpeg only warns of: a user's picture that lacks data passes as a whole one.
func (s *Reference) tell(w *pipeline.Work, line string) {
	var facts struct {
		Warnings string `json:"jpeg_warnings"`
	}
	if json.Unmarshal([]byte(line), &facts) != nil || !strings.HasPrefix(facts.Warnings, "not seen") || s.options.Picture.Name == "" {
		return
	}
	w.Emit(pipeline.Warning{Text: fmt.Sprintf("%s: what libjpeg may warn of, as of data that are missing, was %s", s.options.Picture.Name, facts.Warnings)})
}

// statusBadPicture is that of BadPicture in assets/python/picture.py.
const statusBadPicture = 3

// ownPicture says that it is the user's turn where PyTorch's decoder refuses the user's picture, and names it as the user does.
func (s *Reference) ownPicture(stored string, err error) error {
	problem, ok := errors.AsType[*scriptError](err)
	if !ok || problem.status != statusBadPicture || s.options.Picture.Name == "" {
		return err
	}
	return pipeline.Faultf(pipeline.Usage, "verify with another picture; `dalirun classify` sends what the server can answer",
		"%s", strings.ReplaceAll(problem.reason, stored, s.options.Picture.Name))
}

func referenceScript() script {
	return script{"reference.py", "picture.py", "program.py", "resnet50.py"}
}
