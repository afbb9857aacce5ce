package steps

import (
	"fmt"
	"path"

	"github.com/protocolbuffers/txtpbfmt/parser"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton/pb"
)

// The names of the models that are served.
const (
	DALIModel     = "dali"
	EnsembleModel = "ensemble_dali_resnet50"

	daliInput = "DALI_INPUT_0"

	gpuModel = "resnet50_trt"
	cpuModel = "resnet50_onnx"
	// committedModel is the name under which the classifier stands in model_repository/: the gpu lane's, as in the
	// tutorial.
	committedModel = gpuModel
)

// servedModel is the name of the classifier in a lane.
func servedModel(lane target.Lane) string {
	if lane == target.GPU {
		return gpuModel
	}
	return cpuModel
}

// model is one model of the repository.
type model struct {
	name      string // as served
	committed string // its folder in model_repository/
	// its Python backend in the local server image: file of the version folder → file in assets/python
	programs map[string]string
}

// models returns the models in the order in which they load: the parts of an ensemble before the ensemble.
func models(lane target.Lane) []model {
	return []model{
		{DALIModel, DALIModel, map[string]string{"model.py": "backend_dali.py", "decoder.py": "decoder.py"}},
		{servedModel(lane), committedModel, map[string]string{"model.py": "backend_onnx.py"}},
		{EnsembleModel, EnsembleModel, nil},
	}
}

// modelNames are the names of the models, in the order in which they load.
func modelNames(lane target.Lane) []string {
	var names []string
	for _, m := range models(lane) {
		names = append(names, m.name)
	}
	return names
}

// configFile is the name of each model's configuration.
const configFile = "config.pbtxt"

// configuration holds the settings that the models' configurations depend on.
type configuration struct {
	lane               target.Lane
	source             target.Source
	optBatch, maxBatch int
}

func newConfiguration(t target.Target) configuration {
	return configuration{lane: t.Lane, source: t.Source, optBatch: t.OptBatch, maxBatch: t.MaxBatch}
}

// backend returns the programs that serve m, by file of its version folder, where that is the image's Python backend
// rather than one of NVIDIA's.
func (c configuration) backend(m model) (map[string][]byte, error) {
	files := map[string][]byte{}
	if c.source != target.Local {
		return files, nil
	}
	for name, program := range m.programs {
		text, err := dalirun.Assets.ReadFile(path.Join("assets/python", program))
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// text returns the committed config.pbtxt of m, which is the tutorial's plain one, with c laid over it:
// docs/adr/0010-served-configuration.md. Every field is one that the Triton of the oldest release knows: ragged batches
// came to DALI's backend with 21.06, one before it.
func (c configuration) text(m model) ([]byte, error) {
	name := path.Join(repositoryDir, m.committed, configFile)
	text, err := dalirun.Assets.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var config pb.ModelConfig
	if err := prototext.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	c.overlay(&config, m)
	text, err = prototext.MarshalOptions{Multiline: true}.Marshal(&config)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	// prototext varies its white space from build to build on purpose; a fingerprint cannot.
	return parser.Format(text)
}

func (c configuration) overlay(config *pb.ModelConfig, m model) {
	config.Name = m.name
	config.MaxBatchSize = int32(c.maxBatch) //nolint:gosec // 1 to 256
	if ensemble := config.GetEnsembleScheduling(); ensemble != nil {
		for _, step := range ensemble.GetStep() {
			if step.GetModelName() == committedModel {
				step.ModelName = servedModel(c.lane)
			}
		}
		// an ensemble has no instances: "instance group should not be specified for ensemble" (tritonserver 2.51)
		return
	}
	switch {
	case c.source == target.Local:
		config.Platform, config.Backend = "", "python"
	case m.name == cpuModel:
		config.Platform, config.Backend = "onnxruntime_onnx", ""
	}
	for _, input := range config.GetInput() {
		// Pictures have as many bytes as their files: without this, requests share a batch only if these are equal.
		input.AllowRaggedBatch = input.GetName() == daliInput
	}
	config.SchedulingChoice = &pb.ModelConfig_DynamicBatching{DynamicBatching: c.batching()}
	config.InstanceGroup = []*pb.ModelInstanceGroup{instances(c.lane)}
}

// queueDelay is how long a request waits for others to share its batch, in microseconds. On an H100, with one instance
// of each model, this delay gave one client alone 287 pictures/s, and 64 clients 3,906. A delay of 1 ms cost the single
// client a third and, with four instances of DALI, won 256 clients a tenth. On two cores, where a picture takes 35 ms,
// the delay is a hundredth of that.
const queueDelay = 500

// batching lets the server join requests into one batch.
//
// A batch of a preferred size does not wait for the delay to end. Without one, Triton prefers the largest batch (2.51
// answers [256]), and most requests would wait for the whole delay. Triton's documentation recommends preferred sizes
// for TensorRT's profiles alone (server, docs/user_guide/batcher.md): the engine's size is set for the engine, and for
// DALI, which fills the engine's batches, and none for ONNX Runtime, which is tuned for no size. Requests that have
// queued for longer than the delay join a batch beyond the preferred size, up to the largest one (core,
// src/dynamic_batch_scheduler.cc): on an H100, a batch of 201 pictures with a preferred size of 64 was measured.
//
// The user of an engine that is tuned for single pictures waits for each of them. So there is no delay, and 1 is no
// preferred size: it would keep requests that wait for a busy instance from sharing a batch.
func (c configuration) batching() *pb.ModelDynamicBatching {
	b := &pb.ModelDynamicBatching{MaxQueueDelayMicroseconds: queueDelay}
	if c.lane == target.GPU {
		if c.optBatch == 1 {
			return &pb.ModelDynamicBatching{}
		}
		b.PreferredBatchSize = []int32{int32(c.optBatch)} //nolint:gosec // 1 to 256
	}
	return b
}

// gpuInstances is the number of instances of each model on each GPU: while one copies, another computes. On an H100 and
// with 256 clients, two of each answered 7,159 pictures/s, and one of each 3,903; a single client kept 283 of its 287.
// Four of DALI and two of TensorRT reached 7,906, but fell to 2,191 under batches of 64, as the GPU memory pool
// overflowed. A second TensorRT instance of batch 256 takes 1,005 MiB more there, for its execution context. DALI's are
// not more than two, since its backend's documentation warns of the memory of more than one instance.
const gpuInstances = 2

// instances places a model. In the cpu lane one instance uses all cores, and a second one would only take them from the
// first. In the gpu lane each GPU that the container sees, which --gpus selects, has gpuInstances.
func instances(lane target.Lane) *pb.ModelInstanceGroup {
	if lane == target.GPU {
		return &pb.ModelInstanceGroup{Kind: pb.ModelInstanceGroup_KIND_GPU, Count: gpuInstances}
	}
	return &pb.ModelInstanceGroup{Kind: pb.ModelInstanceGroup_KIND_CPU, Count: 1}
}
