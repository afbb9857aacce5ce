package steps

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// SerializeDALI serializes the DALI pipeline: encoded picture → decode, resize, normalize → FP32 [3,size,size].
type SerializeDALI struct {
	image       pipeline.Output
	picture     []string    // arguments by which the program knows what is done to a decoded picture
	device      target.Lane // where pictures are decoded: `mixed` on device 0, or on the CPU
	maxBatch    int
	threads     int                // CPU threads of each instance
	load        float64            // share of the GPU's JPEG engine, in the gpu lane
	typical     target.PictureSize // for which that engine allocates ahead
	interpreter string
	env         map[string]string // added to the environment that every container has

	gpus       container.GPUs `fact:"-"`
	containers containers     `fact:"-"`
}

func newSerializeDALI(t target.Target, tools Tools, image pipeline.Output) *SerializeDALI {
	s := &SerializeDALI{
		image: image, picture: pictureArguments(t.Recipe.Input), device: t.Lane, maxBatch: t.MaxBatch,
		threads: cmp.Or(t.Serving.DALIThreads, tutorialThreads),
		load:    t.Serving.HWDecoderLoad, typical: t.Serving.Picture,
		interpreter: python, env: nvmlEnv(t), gpus: newGPURequest(t).GPUs, containers: newContainers(tools),
	}
	if t.Source == target.NGC {
		s.interpreter = cmp.Or(t.Release.DALIInterpreter, python)
		if t.Release.DALIIn == release.ServerImage && t.Release.DALIPython != "" {
			// the interpreter does not search the folder of DALI's Python package
			s.env["PYTHONPATH"] = t.Release.DALIPython
		}
	}
	return s
}

const (
	daliFile = "model.dali"
	// tutorialThreads is the tutorial's num_threads.
	tutorialThreads = 4
)

// ID returns serialize-dali.
func (s *SerializeDALI) ID() pipeline.ID { return IDSerializeDALI }

// Inputs are the image that has DALI's Python package.
func (s *SerializeDALI) Inputs() []pipeline.Output { return []pipeline.Output{s.image} }

// Outputs are the serialized DALI pipeline.
func (s *SerializeDALI) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDSerializeDALI, Name: daliFile}}
}

func (s *SerializeDALI) command() []string {
	command := serializeScript().command(slices.Concat(s.picture,
		[]string{
			"--device", string(s.device),
			"--max-batch", strconv.Itoa(s.maxBatch),
			"--threads", strconv.Itoa(s.threads),
			"--output", outDir + "/" + daliFile,
		})...)
	if s.device == target.GPU {
		command = append(command, "--hw-decoder-load", strconv.FormatFloat(s.load, 'g', -1, 64),
			"--picture-size", fmt.Sprintf("%dx%d", s.typical.Width, s.typical.Height))
	}
	command[0] = s.interpreter
	return command
}

// Facts are the program, its arguments and its environment.
func (s *SerializeDALI) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	facts, err := serializeScript().facts(s.command())
	if err != nil {
		return nil, err
	}
	for name, value := range s.env {
		facts["env "+name] = value
	}
	return facts, nil
}

// nvmlEnv returns the variable that keeps DALI from using NVML where NVML is incomplete: on WSL 2, building the decoder
// ends in "nvml error (999)" (NVIDIA/DALI #3878, #4964). DALI reads a number here, not "true"; DALI before October 2021
// (#3404) ignores the variable.
func nvmlEnv(t target.Target) map[string]string {
	if t.Lane != target.GPU || !t.NoNVML {
		return map[string]string{}
	}
	return map[string]string{"DALI_DISABLE_NVML": "1"}
}

// Run serializes the DALI pipeline.
func (s *SerializeDALI) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.containers.spec(IDSerializeDALI, w.Input(s.image).Ref, s.command()...)
	maps.Copy(spec.Env, s.env)
	spec.GPUs = s.gpus
	return s.containers.runScript(ctx, w, serializeScript(), spec, 10*time.Minute)
}

func serializeScript() script { return script{"serialize_dali.py", "program.py"} }
