package steps

import (
	"fmt"
	"path"
	"strconv"
	"time"

	"github.com/protocolbuffers/txtpbfmt/parser"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton/pb"
)

const (
	daliInput  = "DALI_INPUT_0"
	daliOutput = "DALI_OUTPUT_0"
)

// committed are the names of the models in model_repository/: the tutorial's, which are those of the default recipe on
// the gpu lane.
var committed = recipe.Recipe{Name: recipe.Default}.GPUNames() //nolint:gochecknoglobals // a constant

// model is one model of the repository.
type model struct {
	name      string // as served
	committed string // its folder in model_repository/
	// its Python backend in the local server image: file of the version folder → file in assets/python
	programs map[string]string
}

// models returns the models in the order in which they load: the parts of an ensemble before the ensemble.
func models(names recipe.Names) []model {
	return []model{
		{names.DALI, committed.DALI, map[string]string{"model.py": "backend_dali.py", "decoder.py": "decoder.py"}},
		{names.Classifier, committed.Classifier, map[string]string{"model.py": "backend_onnx.py"}},
		{names.Ensemble, committed.Ensemble, nil},
	}
}

// modelNames are the names of the models, in the order in which they load.
func modelNames(t target.Target) []string {
	var names []string
	for _, m := range models(t.Names()) {
		names = append(names, m.name)
	}
	return names
}

// configFile is the name of each model's configuration.
const configFile = "config.pbtxt"

// parseConfiguration reads the text of a config.pbtxt of a name.
func parseConfiguration(name string, text []byte) (*pb.ModelConfig, error) {
	config := new(pb.ModelConfig)
	if err := prototext.Unmarshal(text, config); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return config, nil
}

// configuration holds the settings that the models' configurations depend on. What a server has of its hardware is
// decided in [target.DecideServing].
type configuration struct {
	lane                               target.Lane
	size, classes                      int // pixels of each side of the network's input, and its answers
	names                              recipe.Names
	source                             target.Source
	maxBatch                           int
	daliInstances, classifierInstances int
	daliThreads                        int // of the local image's backend; 0 is its own number
	preferredBatch                     int
	queueDelay                         time.Duration
	queueLimit, inflightLimit          int
}

func newConfiguration(t target.Target) configuration {
	return configuration{
		lane: t.Lane, size: t.Recipe.Input.Size, classes: t.Recipe.Classes, names: t.Names(), source: t.Source,
		maxBatch:      t.MaxBatch,
		daliInstances: t.Serving.DALIInstances, classifierInstances: t.Serving.ClassifierInstances,
		daliThreads: t.Serving.DALIThreads, preferredBatch: t.Serving.PreferredBatch, queueDelay: t.Serving.QueueDelay,
		queueLimit: t.Serving.QueueLimit, inflightLimit: t.Serving.InflightLimit,
	}
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
// came to DALI's backend with 21.06, one before it. [target.DecideServing] leaves out the limits that a release lacks.
func (c configuration) text(m model) ([]byte, error) {
	name := path.Join(repositoryDir, m.committed, configFile)
	text, err := dalirun.Assets.ReadFile(name)
	if err != nil {
		return nil, err
	}
	config, err := parseConfiguration(name, text)
	if err != nil {
		return nil, err
	}
	if err := c.overlay(config, m); err != nil {
		return nil, err
	}
	text, err = prototext.MarshalOptions{Multiline: true}.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	// prototext varies its white space from build to build on purpose; a fingerprint cannot.
	return parser.Format(text)
}

func (c configuration) overlay(config *pb.ModelConfig, m model) error {
	config.Name = m.name
	config.MaxBatchSize = int32(c.maxBatch) //nolint:gosec // 1 to 256
	c.shape(config)
	if ensemble := config.GetEnsembleScheduling(); ensemble != nil {
		for _, step := range ensemble.GetStep() {
			if step.GetModelName() == committed.Classifier {
				step.ModelName = c.names.Classifier
			}
		}
		ensemble.MaxInflightRequests = uint32(c.inflightLimit) //nolint:gosec // 0 to 100,000
		// an ensemble has no instances: "instance group should not be specified for ensemble" (tritonserver 2.51)
		return nil
	}
	switch {
	case c.source == target.Local:
		config.Platform, config.Backend = "", "python"
		if m.name == c.names.DALI && c.daliThreads > 0 { // else one for each CPU; NVIDIA's backend takes the DALI pipeline's
			config.Parameters = map[string]*pb.ModelParameter{"num_threads": {StringValue: strconv.Itoa(c.daliThreads)}}
		}
	case m.name == c.names.Classifier && c.lane == target.CPU:
		config.Platform, config.Backend = "onnxruntime_onnx", ""
	}
	for _, input := range config.GetInput() {
		// Pictures have as many bytes as their files: without this, requests share a batch only if these are equal.
		input.AllowRaggedBatch = input.GetName() == daliInput
	}
	config.SchedulingChoice = &pb.ModelConfig_DynamicBatching{DynamicBatching: c.batching()}
	config.InstanceGroup = []*pb.ModelInstanceGroup{c.instances(m)}
	var err error
	config.ModelWarmup, err = c.warmup(m)
	return err
}

// shape gives tensors the recipe's sizes: those of a picture have three dimensions, and answers have one.
func (c configuration) shape(config *pb.ModelConfig) {
	picture, answer := []int64{3, int64(c.size), int64(c.size)}, []int64{int64(c.classes)}
	for _, input := range config.GetInput() {
		if len(input.GetDims()) == len(picture) {
			input.Dims = picture
		}
	}
	for _, output := range config.GetOutput() {
		if output.Dims = answer; output.GetName() == daliOutput {
			output.Dims = picture
		}
	}
}

// batching lets the server join requests into one batch.
//
// A batch of a preferred size does not wait for the delay to end. Without one, Triton prefers the largest batch (2.51
// answers [256]), and with a delay most requests would wait for the whole of it. Requests that have queued for longer
// than the delay join a batch beyond the preferred size, up to the largest one (core, src/dynamic_batch_scheduler.cc):
// on an H100, a batch of 201 pictures with a preferred size of 64 was measured.
func (c configuration) batching() *pb.ModelDynamicBatching {
	b := &pb.ModelDynamicBatching{MaxQueueDelayMicroseconds: uint64(c.queueDelay.Microseconds())} //nolint:gosec // ≥ 0
	if c.preferredBatch > 0 {
		b.PreferredBatchSize = []int32{int32(c.preferredBatch)} //nolint:gosec // 1 to 256
	}
	if c.queueLimit > 0 {
		b.DefaultQueuePolicy = &pb.ModelQueuePolicy{MaxQueueSize: uint32(c.queueLimit)} //nolint:gosec // 1 to 100,000
	}
	return b
}

// instances places a model: on each GPU that the container sees, which --gpus selects, or on the CPU.
func (c configuration) instances(m model) *pb.ModelInstanceGroup {
	count, kind := c.classifierInstances, pb.ModelInstanceGroup_KIND_CPU
	if m.name == c.names.DALI {
		count = c.daliInstances
	}
	if c.lane == target.GPU {
		kind = pb.ModelInstanceGroup_KIND_GPU
	}
	return &pb.ModelInstanceGroup{Kind: kind, Count: int32(count)} //nolint:gosec // 1 to 64
}
