package steps

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// SerializeDALI serializes the DALI pipeline: encoded picture → decode, resize to 224×224, normalize → FP32 [3,224,224].
type SerializeDALI struct {
	options Options
	tools   Tools
	image   pipeline.Output
}

const (
	daliFile = "model.dali"
	// daliThreads is the tutorial's num_threads.
	daliThreads = 4
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
	command := serializeScript().command(
		"--device", string(s.options.Lane),
		"--max-batch", strconv.Itoa(s.options.MaxBatch),
		"--threads", strconv.Itoa(daliThreads),
		"--output", outDir+"/"+daliFile)
	if s.options.Images == NGC && s.options.Release.DALIInterpreter != "" {
		command[0] = s.options.Release.DALIInterpreter
	}
	return command
}

// Facts are the program and its arguments: for the gpu lane the `mixed` decoder on device 0, else the CPU's.
func (s *SerializeDALI) Facts(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	facts, err := serializeScript().facts(s.command())
	if err != nil {
		return nil, err
	}
	for name, value := range s.env() {
		facts["env "+name] = value
	}
	return facts, nil
}

// env is what the container's environment has besides what every batch container has.
func (s *SerializeDALI) env() map[string]string {
	env := nvmlEnv(s.options)
	if python := s.pythonPath(); python != "" {
		env["PYTHONPATH"] = python
	}
	return env
}

// nvmlEnv keeps DALI from asking NVML where NVML is not whole: building the decoder would end in "nvml error (999)", seen by others on WSL 2
// (NVIDIA/DALI #3878, #4964). DALI reads a number here, not "true"; DALI before October 2021 (#3404) passes the variable over.
func nvmlEnv(o Options) map[string]string {
	if o.Lane != GPU || !o.NoNVML {
		return map[string]string{}
	}
	return map[string]string{"DALI_DISABLE_NVML": "1"}
}

// pythonPath is where DALI's Python package is, if the interpreter does not find it by itself.
func (s *SerializeDALI) pythonPath() string {
	if s.options.Images == NGC && s.options.Release.DALIIn == release.ServerImage {
		return s.options.Release.DALIPython
	}
	return ""
}

// Run serializes the DALI pipeline.
func (s *SerializeDALI) Run(ctx context.Context, w *pipeline.Work) error {
	spec := s.tools.batchSpec(IDSerializeDALI, w.Input(s.image).Ref, s.command()...)
	maps.Copy(spec.Env, s.env())
	if s.options.Lane == GPU {
		spec.GPUs = s.options.GPUs
	}
	return s.tools.runScript(ctx, w, serializeScript(), spec, 10*time.Minute)
}

func serializeScript() script { return script{"serialize_dali.py", "program.py"} }
