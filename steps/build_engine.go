package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// BuildEngine builds the TensorRT engine with the trtexec of the image that serves it, so that their TensorRT is the same.
type BuildEngine struct {
	options Options
	machine Machine
	image   pipeline.Output
	onnx    pipeline.Output
}

const (
	planFile   = "model.plan"
	onnxTarget = "/in/" + onnxFile
)

// ID returns build-engine.
func (s *BuildEngine) ID() pipeline.ID { return IDBuildEngine }

// Inputs are the image with trtexec and the ONNX model.
func (s *BuildEngine) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.onnx} }

// Outputs are the engine.
func (s *BuildEngine) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDBuildEngine, Name: planFile}}
}

// findTrtexec runs trtexec where NVIDIA's images have it: on PATH in the PyTorch images, aside in the Triton images.
const findTrtexec = `PATH="$PATH:/usr/src/tensorrt/bin:/opt/tensorrt/bin" exec trtexec "$@"`

// command is trtexec's argv in the dialect of the image's own TensorRT, or the release's where the image does not say.
func (s *BuildEngine) command(env map[string]string) ([]string, release.Version, error) {
	text := env["TRT_VERSION"]
	if text == "" {
		text = s.options.Release.TensorRT
	}
	version, err := release.ParseVersion(text)
	if err != nil {
		return nil, version, pipeline.Faultf(pipeline.Environment, "name a release with --release YY.MM, for NVIDIA's plain -py3 image",
			"the image does not say which TensorRT it holds (TRT_VERSION=%q)", text)
	}
	args, err := release.Trtexec(version, release.EngineBuild{
		ONNX: onnxTarget, Plan: outDir + "/" + planFile, Input: "input",
		MinBatch: 1, OptBatch: s.options.OptBatch, MaxBatch: s.options.MaxBatch, Precision: s.options.Precision,
	})
	if err != nil {
		return nil, version, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: "choose an older release with --release"}
	}
	return append([]string{"sh", "-c", findTrtexec, "trtexec"}, args...), version, nil
}

// Facts are trtexec's arguments, TensorRT's version and the GPU: an engine runs only on what it was built for.
func (s *BuildEngine) Facts(_ context.Context, in pipeline.Inputs) (pipeline.Facts, error) {
	env, err := s.machine.imageEnv(in[s.image])
	if err != nil {
		return nil, err
	}
	command, version, err := s.command(env)
	if err != nil {
		return nil, err
	}
	return pipeline.Facts{
		"argv": argv(command), "tensorrt": version.String(),
		"gpu": s.options.Device.Name, "compute": s.options.Device.Compute, "driver": s.options.Device.Driver,
	}, nil
}

// Run builds the engine.
func (s *BuildEngine) Run(ctx context.Context, w *pipeline.Work) error {
	env, err := s.machine.imageEnv(w.Input(s.image))
	if err != nil {
		return err
	}
	command, _, err := s.command(env)
	if err != nil {
		return err
	}
	spec := batchSpec(IDBuildEngine, w.Input(s.image).Ref, command...)
	spec.GPUs = s.options.GPUs
	spec.Inputs = []container.Mount{{Source: w.Input(s.onnx).Path, Target: onnxTarget}}
	spec.Outputs = []container.Mount{{Source: w.Dir, Target: outDir}}
	const limit = time.Hour // seen: 78 s on an H100; small GPUs take many minutes
	last, err := s.machine.runBatch(ctx, w, spec, limit)
	if err != nil {
		return err
	}
	// trtexec has been seen to go on after it could not save.
	info, err := os.Stat(w.Path(planFile))
	if err != nil || info.Size() == 0 {
		return &pipeline.Fault{
			Kind: pipeline.ContainerFailed, Err: errors.New("trtexec ended well but saved no engine"), Tail: last,
			Hint: "its log says why; a full disk is the usual reason", Repeat: s.machine.Runtime.CommandLine(spec),
		}
	}
	w.Emit(pipeline.Line{Text: fmt.Sprintf("engine: %d bytes", info.Size())})
	return nil
}
