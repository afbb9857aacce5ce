package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Reference lets PyTorch classify the picture, and keeps the model's input and answer in full precision.
type Reference struct {
	image   pipeline.Output
	weights weightsInput
	model   []string // arguments by which the program knows network and preprocessing
	picture []byte

	pictureName string     `fact:"-"` // what the user calls it; empty for the one that dalirun carries
	containers  containers `fact:"-"`
}

func newReference(t target.Target, tools Tools, exporter, weights pipeline.Output) *Reference {
	return &Reference{
		image: exporter, weights: newWeightsInput(t, weights), picture: t.Picture.Data,
		model: slices.Concat(networkArguments(t.Recipe), normalizationArguments(t.Recipe.Input),
			resizeArguments(t.Recipe.Input)),
		pictureName: t.Picture.Name, containers: newContainers(tools),
	}
}

const (
	tensorFile    = "tensor.f32" // little-endian FP32 [3,size,size]
	logitsFile    = "logits.f32" // little-endian FP32 [classes]
	pictureTarget = "/dalirun/picture"
)

// ID returns reference.
func (s *Reference) ID() pipeline.ID { return IDReference }

// Inputs are the exporter image and the weights.
func (s *Reference) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.weights.output} }

// Outputs are the tensor and the logits.
func (s *Reference) Outputs() []pipeline.Output {
	return []pipeline.Output{s.Tensor(), s.Logits()}
}

// Tensor is the preprocessed picture: little-endian FP32 [3,size,size], normalized.
func (s *Reference) Tensor() pipeline.Output {
	return pipeline.Output{Step: IDReference, Name: tensorFile}
}

// Logits are PyTorch's answer: little-endian FP32 [classes].
func (s *Reference) Logits() pipeline.Output {
	return pipeline.Output{Step: IDReference, Name: logitsFile}
}

func (s *Reference) command() []string {
	return referenceScript().command(s.weights.arguments(slices.Concat(s.model,
		[]string{"--image", pictureTarget, "--output-dir", outDir})...)...)
}

// Facts are the picture, the program and its arguments.
func (s *Reference) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	facts, err := referenceScript().facts(s.command())
	if err != nil {
		return nil, err
	}
	facts["picture"] = digest(s.picture)
	return facts, nil
}

// Run classifies the picture in the exporter image.
func (s *Reference) Run(ctx context.Context, w *pipeline.Work) error {
	picture := w.Path("picture")
	if err := os.WriteFile(picture, s.picture, 0o600); err != nil {
		return err
	}
	spec := s.containers.spec(IDReference, w.Input(s.image).Ref, s.command()...)
	spec.Inputs = []container.Mount{s.weights.mount(w), {Source: picture, Target: pictureTarget}}
	last := &tail{read: func(line string) { s.warnUnseen(w, line) }}
	err := s.containers.readScript(ctx, w, referenceScript(), spec, last, 10*time.Minute)
	return s.blamePicture(picture, s.weights.nameUserFile(w, err))
}

// warnUnseen warns if the program could not read libjpeg's warnings: a user's picture that lacks data then passes as a
// whole one.
func (s *Reference) warnUnseen(w *pipeline.Work, line string) {
	var facts struct {
		Warnings string `json:"jpeg_warnings"`
	}
	if json.Unmarshal([]byte(line), &facts) != nil || !strings.HasPrefix(facts.Warnings, "not seen") ||
		s.pictureName == "" {
		return
	}
	w.Emit(pipeline.Warning{Text: fmt.Sprintf("%s: what libjpeg may warn of, as of data that are missing, was %s",
		s.pictureName, facts.Warnings)})
}

// statusBadPicture is the exit status for BadPicture in assets/python/picture.py.
const statusBadPicture = 3

// blamePicture makes it a usage error that PyTorch's decoder refuses the user's picture, and names the picture as the
// user does.
func (s *Reference) blamePicture(stored string, err error) error {
	problem, ok := errors.AsType[*scriptError](err)
	if !ok || problem.status != statusBadPicture || s.pictureName == "" {
		return err
	}
	return pipeline.Usagef(
		"verify with another picture; `dalirun classify` sends what the server can answer",
		"%s", strings.ReplaceAll(problem.reason, stored, s.pictureName))
}

func referenceScript() script {
	return script{"reference.py", "picture.py", "program.py", "network.py"}
}
