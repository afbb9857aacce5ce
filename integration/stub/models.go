package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// models is a model repository.
type models struct {
	process *process
	dir     string
	log     io.Writer

	byName map[string]tritontest.Model
}

// read makes a model of each folder, from its config.pbtxt.
func (r *models) read() ([]tritontest.Model, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "config.pbtxt"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("failed to stat file %s", r.dir))
	}
	r.byName = map[string]tritontest.Model{}
	var list []tritontest.Model
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var c pb.ModelConfig
		if err := prototext.Unmarshal(text, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m, err := r.model(filepath.Dir(file), &c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		r.byName[m.Name] = m
		list = append(list, m)
	}
	return list, nil
}

func (r *models) model(dir string, c *pb.ModelConfig) (tritontest.Model, error) {
	m := tritontest.Model{Name: c.GetName(), Platform: c.GetPlatform(), MaxBatch: int(c.GetMaxBatchSize())}
	if m.Name != filepath.Base(dir) {
		return m, fmt.Errorf("model %q is in the folder %q", m.Name, filepath.Base(dir))
	}
	if info, err := os.Stat(filepath.Join(dir, "1")); err != nil || !info.IsDir() {
		return m, fmt.Errorf("failed to load model '%s': at least one version must be available under the version policy",
			m.Name)
	}
	for _, t := range c.GetInput() {
		m.Inputs = append(m.Inputs, tensorOf(t.GetName(), t.GetDataType(), t.GetDims()))
	}
	for _, t := range c.GetOutput() {
		m.Outputs = append(m.Outputs, tensorOf(t.GetName(), t.GetDataType(), t.GetDims()))
		if name := t.GetLabelFilename(); name != "" {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return m, err
			}
			m.Labels = strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		}
	}
	switch kind := c.GetPlatform() + c.GetBackend(); kind {
	case "dali":
		r.dali(&m, dir)
	case "tensorrt_plan":
		r.plan(&m, dir)
	case "onnxruntime_onnx":
		r.onnx(&m, dir)
	case "ensemble":
		r.ensemble(&m, c)
	default:
		return m, fmt.Errorf("there is no backend for %q", kind)
	}
	if len(c.GetModelWarmup()) > 0 {
		m.Load = warmed(m.Load, m.Infer, dir, c.GetModelWarmup())
	}
	return m, nil
}

// warmed loads a model and runs its warm-up.
func warmed(
	load func(context.Context) error, infer infers, dir string, warmups []*pb.ModelWarmup,
) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := load(ctx); err != nil {
			return err
		}
		for _, w := range warmups {
			if err := warmUp(ctx, dir, w, infer); err != nil {
				return fmt.Errorf("failed to run warmup sample '%s': %w", w.GetName(), err)
			}
		}
		return nil
	}
}

// infers is [tritontest.Model.Infer].
type infers = func(context.Context, []triton.Tensor) ([]triton.Tensor, error)

// warmUp runs a request of a warm-up as Triton does: a file must have as many bytes as dims say.
func warmUp(ctx context.Context, dir string, w *pb.ModelWarmup, infer infers) error {
	var request []triton.Tensor
	for name, input := range w.GetInputs() {
		t := triton.Tensor{
			Name: name, Datatype: triton.Datatype(strings.TrimPrefix(input.GetDataType().String(), "TYPE_")),
			Shape: append([]int64{1}, input.GetDims()...),
		}
		size := int64(1)
		for _, d := range t.Shape {
			size *= d
		}
		if input.GetDataType() == pb.DataType_TYPE_FP32 {
			size *= 4
		}
		t.Data = make([]byte, size)
		if file := input.GetInputDataFile(); file != "" {
			var err error
			if t.Data, err = os.ReadFile(filepath.Join(dir, "warmup", file)); err != nil {
				return err
			}
			if int64(len(t.Data)) != size {
				return fmt.Errorf("warmup setting expects %d bytes, but the data provided from %s only has %d bytes",
					size, file, len(t.Data))
			}
		}
		request = append(request, t)
	}
	_, err := infer(ctx, request)
	return err
}

// tensorOf adds the batch's dimension.
func tensorOf(name string, datatype pb.DataType, dims []int64) triton.TensorMetadata {
	return triton.TensorMetadata{
		Name: name, Datatype: triton.Datatype(strings.TrimPrefix(datatype.String(), "TYPE_")),
		Shape: append([]int64{-1}, dims...),
	}
}

// dali decodes. Its pipeline says where it runs.
func (r *models) dali(m *tritontest.Model, dir string) {
	var difference float32
	m.Load = func(context.Context) error {
		name := filepath.Join(dir, "1", "model.dali")
		a, err := readArtifact(name, kindDALI)
		if err != nil {
			return fmt.Errorf("failed to load DALI pipeline from file %s: %w", name, err)
		}
		if a.Device == "gpu" && !r.process.hasGPU() {
			fmt.Fprint(r.log, grep(tooltest.Output("tritonserver-without-gpus.log"), `dali_backend|dali_model|'dali' version`))
			return errors.New("error while instantiating DALI pipeline: " +
				"Assert on \"!params.device_id.has_value() || cuInitChecked()\" failed: " +
				"You are trying to create a GPU DALI pipeline while CUDA is not available")
		}
		if a.Device == "gpu" {
			difference = daliError
		}
		fmt.Fprint(r.log, grep(tooltest.Output("tritonserver-gpu-ready.log"), `dali_backend|dali_model|'dali'`))
		return nil
	}
	m.Infer = func(_ context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
		var all []float32
		batch, size := in[0].Shape[0], in[0].Shape[1]
		for i := range batch {
			tensor := off(preprocess(in[0].Data[i*size:(i+1)*size]), difference)
			if r.process.fails("wrong-mean") {
				for i := range tensor {
					tensor[i] -= 0.4
				}
			}
			all = append(all, tensor...)
		}
		out, err := triton.NewFloat32(m.Outputs[0].Name, all, append([]int64{batch}, m.Outputs[0].Shape[1:]...)...)
		return []triton.Tensor{out}, err
	}
}

// plan runs a TensorRT engine: only one of the image's own TensorRT, whole, on a GPU.
func (r *models) plan(m *tritontest.Model, dir string) {
	var engine artifact
	m.Load = func(ctx context.Context) error {
		switch {
		case !r.process.hasGPU():
			fmt.Fprint(r.log, grep(tooltest.Output("tritonserver-without-gpus.log"), `tensorrt.cc|'resnet50_trt'`))
			return fmt.Errorf("unable to load model '%s', TensorRT backend supports only GPU device", m.Name)
		case r.process.fails("hang"):
			<-ctx.Done()
			return ctx.Err()
		case r.process.fails("die"):
			fmt.Fprintln(r.log, "Signal (11) received.")
			os.Exit(139) //nolint:forbidigo // a crash answers nobody
		}
		name := filepath.Join(dir, "1", "model.plan")
		var err error
		engine, err = readArtifact(name, kindPlan)
		if err != nil || engine.TensorRT != r.process.env("TRT_VERSION") || r.process.fails("unreadable-plan") {
			fmt.Fprint(r.log, grep(tooltest.Output("tritonserver-truncated-plan.log"), `tensorrt.cc|logging.cc|'resnet50_trt'`))
			return fmt.Errorf("unable to load plan file to auto complete config: %s", name)
		}
		fmt.Fprint(r.log, grep(tooltest.Output("tritonserver-gpu-ready.log"),
			`tensorrt.cc|logging.cc|instance_state|'resnet50_trt'`))
		return nil
	}
	m.Infer = func(_ context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
		return classify(m, in[0], func(tensor []float32) []float32 {
			logits := infer(tensor, engine.Weights)
			if !engine.FP16 {
				return logits
			}
			return off(logits, fp16Error*largest(logits))
		})
	}
}

// onnx runs an ONNX model on the CPU.
func (r *models) onnx(m *tritontest.Model, dir string) {
	var model artifact
	m.Load = func(context.Context) (err error) {
		model, err = readArtifact(filepath.Join(dir, "1", "model.onnx"), kindONNX)
		return err
	}
	m.Infer = func(_ context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
		return classify(m, in[0], func(tensor []float32) []float32 { return infer(tensor, model.Weights) })
	}
}

// classify runs each tensor of a batch through the network.
func classify(m *tritontest.Model, in triton.Tensor, network func([]float32) []float32) ([]triton.Tensor, error) {
	values, err := in.Float32s()
	if err != nil {
		return nil, err
	}
	var all []float32
	for i := range in.Shape[0] {
		all = append(all, network(values[i*tensorSize:(i+1)*tensorSize])...)
	}
	out, err := triton.NewFloat32(m.Outputs[0].Name, all, in.Shape[0], classes)
	return []triton.Tensor{out}, err
}

// ensemble passes tensors from model to model as its configuration says.
func (r *models) ensemble(m *tritontest.Model, c *pb.ModelConfig) {
	steps := c.GetEnsembleScheduling().GetStep()
	for _, step := range steps {
		m.Requires = append(m.Requires, step.GetModelName())
	}
	// Triton takes the labels of an ensemble's output from the model that makes it.
	if last := filepath.Join(r.dir, steps[len(steps)-1].GetModelName(), "labels.txt"); m.Labels == nil {
		if text, err := os.ReadFile(last); err == nil {
			m.Labels = strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		}
	}
	m.Infer = func(ctx context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
		tensors := map[string]triton.Tensor{}
		for _, t := range in {
			tensors[t.Name] = t
		}
		for _, step := range steps {
			var inputs []triton.Tensor
			for name, from := range step.GetInputMap() {
				t := tensors[from]
				t.Name = name
				inputs = append(inputs, t)
			}
			outputs, err := r.byName[step.GetModelName()].Infer(ctx, inputs)
			if err != nil {
				return nil, err
			}
			for _, t := range outputs {
				t.Name = step.GetOutputMap()[t.Name]
				tensors[t.Name] = t
			}
		}
		var outputs []triton.Tensor
		for _, t := range m.Outputs {
			outputs = append(outputs, tensors[t.Name])
		}
		return outputs, nil
	}
}
