package steps

import (
	"fmt"
	"path"

	"github.com/protocolbuffers/txtpbfmt/parser"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/triton/pb"
)

// The names of the models that are served.
const (
	DALIModel     = "dali"
	EnsembleModel = "ensemble_dali_resnet50"

	daliInput = "DALI_INPUT_0"

	gpuModel = "resnet50_trt"
	cpuModel = "resnet50_onnx"
	// committedModel is the name under which the classifier stands in model_repository/: the gpu lane's, as in the tutorial.
	committedModel = gpuModel
)

// servedModel is the name of the classifier in a lane.
func servedModel(lane Lane) string {
	if lane == GPU {
		return gpuModel
	}
	return cpuModel
}

// model is one model of the repository.
type model struct {
	name      string // as served
	committed string // its folder in model_repository/
	program   string // its Python backend in the local server image, in assets/python
}

// models are in the order in which they load: what an ensemble is composed of comes first.
func models(lane Lane) []model {
	return []model{
		{DALIModel, DALIModel, "backend_dali.py"},
		{servedModel(lane), committedModel, "backend_onnx.py"},
		{EnsembleModel, EnsembleModel, ""},
	}
}

// backend returns the program that serves m, where that is the image's Python backend rather than one of NVIDIA's, else nil.
func (m model) backend(o Options) ([]byte, error) {
	if o.Images != Local || m.program == "" {
		return nil, nil
	}
	return dalirun.Assets.ReadFile(path.Join("assets/python", m.program))
}

// modelConfig returns the committed config.pbtxt of m with the lane, image source and batch size of o laid over it.
func modelConfig(o Options, m model) ([]byte, error) {
	name := path.Join(repositoryDir, m.committed, "config.pbtxt")
	text, err := dalirun.Assets.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var c pb.ModelConfig
	if err := prototext.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	overlay(&c, o, m)
	text, err = prototext.MarshalOptions{Multiline: true}.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	// prototext varies its white space from build to build on purpose; a fingerprint cannot.
	return parser.Format(text)
}

func overlay(c *pb.ModelConfig, o Options, m model) {
	c.Name = m.name
	c.MaxBatchSize = int32(o.MaxBatch) //nolint:gosec // 1 to 256
	for _, step := range c.GetEnsembleScheduling().GetStep() {
		if step.GetModelName() == committedModel {
			step.ModelName = servedModel(o.Lane)
		}
	}
	if c.GetEnsembleScheduling() != nil || o.Lane == GPU {
		return // an ensemble runs nowhere itself
	}
	c.InstanceGroup = []*pb.ModelInstanceGroup{{Kind: pb.ModelInstanceGroup_KIND_CPU, Count: 1}}
	switch {
	case o.Images == Local:
		c.Platform, c.Backend = "", "python"
		// The Python backends take pictures of different sizes in one batch, and answer each by itself.
		c.SchedulingChoice = &pb.ModelConfig_DynamicBatching{DynamicBatching: &pb.ModelDynamicBatching{MaxQueueDelayMicroseconds: 500}}
		for _, input := range c.GetInput() {
			input.AllowRaggedBatch = input.GetName() == daliInput
		}
	case m.name == cpuModel:
		c.Platform, c.Backend = "onnxruntime_onnx", ""
	}
}
