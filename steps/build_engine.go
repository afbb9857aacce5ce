package steps

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/trtexec"
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
	engineFile = "engine.json"
	onnxTarget = "/in/" + onnxFile
	modelInput = "input" // as export_onnx.py names it
	// What the build writes beside the engine, and nobody keeps from there.
	layersFile = "layers.json"
	timingFile = "timing.cache"
)

// ID returns build-engine.
func (s *BuildEngine) ID() pipeline.ID { return IDBuildEngine }

// Inputs are the image with trtexec and the ONNX model.
func (s *BuildEngine) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.onnx} }

// Outputs are the engine, and what was proven of it.
func (s *BuildEngine) Outputs() []pipeline.Output {
	return []pipeline.Output{{Step: IDBuildEngine, Name: planFile}, s.engine()}
}

func (s *BuildEngine) engine() pipeline.Output {
	return pipeline.Output{Step: IDBuildEngine, Name: engineFile}
}

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
	build := trtexec.Build{
		ONNX: onnxTarget, Plan: outDir + "/" + planFile, Input: modelInput,
		MinBatch: 1, OptBatch: s.options.OptBatch, MaxBatch: s.options.MaxBatch,
		Precision: s.options.Precision, Cast: s.onnx.Step == IDCastONNX, TimingCache: outDir + "/" + timingFile,
	}
	if trtexec.DescribesLayers(version) {
		build.LayerInfo = outDir + "/" + layersFile
	}
	command, err := trtexec.Command(version, build)
	if errors.Is(err, trtexec.ErrNeedsCast) {
		return nil, version, &pipeline.Fault{
			Kind: pipeline.Environment, Err: err, Hint: "--precision fp32 builds without a cast; so does an older release, which --release names",
		}
	}
	if err != nil {
		return nil, version, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: "choose another release with --release"}
	}
	return command, version, nil
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
		"gpu": s.options.Device.key(), gpuProofFact: "what trtexec says that it took", "compute": s.options.Device.Compute, "driver": s.options.Device.Driver,
	}, nil
}

// Run builds the engine and proves that it is what was asked for.
func (s *BuildEngine) Run(ctx context.Context, w *pipeline.Work) error {
	env, err := s.machine.imageEnv(w.Input(s.image))
	if err != nil {
		return err
	}
	command, version, err := s.command(env)
	if err != nil {
		return err
	}
	spec := s.machine.batchSpec(IDBuildEngine, w.Input(s.image).Ref, command...)
	spec.GPUs = s.options.GPUs
	spec.Inputs = []container.Mount{{Source: w.Input(s.onnx).Path, Target: onnxTarget}}
	spec.Outputs = []container.Mount{{Source: w.Dir, Target: outDir}}
	have, err := s.memory(ctx, w)
	if err == nil {
		err = s.checkMemory(have)
	}
	if err != nil {
		return err
	}
	timed := s.loadTimings(ctx, w)
	engine, err := s.build(ctx, w, spec, have, env["TRT_VERSION"], version)
	if timed && s.blamesTimings(err) {
		s.forgetTimings(ctx, w)
	}
	if err != nil {
		return err
	}
	for _, told := range engine.told() {
		w.Emit(told)
	}
	w.Emit(pipeline.Line{Text: "engine: " + engine.String()})
	return engine.write(w.Path(engineFile))
}

// Remind tells what was proven of a stored engine, and what was not.
func (s *BuildEngine) Remind(stored pipeline.Values) []pipeline.Payload {
	engine, err := readEngine(stored[engineFile].Path)
	if err != nil || engine.SHA256 == "" {
		return nil
	}
	return engine.told()
}

// told is what each run that uses the engine says of it.
func (e Engine) told() []pipeline.Payload {
	told := []pipeline.Payload{pipeline.Result{Name: ResultEngine, Value: e}}
	for _, doubt := range e.Doubts {
		told = append(told, pipeline.Warning{Text: doubt})
	}
	return told
}

// build runs trtexec and returns what was proven of the engine.
func (s *BuildEngine) build(ctx context.Context, w *pipeline.Work, spec container.Spec, have GPUMemory, image string, version release.Version) (Engine, error) {
	log := newBuildLog(w.Emit)
	last := &tail{read: log.read}
	const limit = time.Hour // seen: 78 s on an H100; small GPUs take many minutes
	err := s.machine.runBatch(ctx, w, spec, last, limit)
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok && last.told == remedy.GPUOutOfMemory {
		s.outOfMemory(fault, have)
	}
	if err != nil {
		return Engine{}, err
	}
	plan, err := os.Stat(w.Path(planFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && plan.Size() == 0 { // trtexec has been seen to end well after it could not save
		fault := &pipeline.Fault{
			Kind: pipeline.ContainerFailed, Err: errors.New("trtexec ended well but saved no engine"), Hint: "its log says why; a full disk is the usual reason",
			Tail: last.lines(), Repeat: s.machine.Runtime.CommandLine(spec),
		}
		last.explain(fault)
		return Engine{}, fault
	}
	if err != nil {
		return Engine{}, err
	}
	engine, err := s.prove(ctx, w, log.facts, image, version)
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		fault.Tail, fault.Repeat = last.lines(), s.machine.Runtime.CommandLine(spec)
	}
	if err == nil && !log.facts.NoTimings {
		s.keepTimings(ctx, w)
	}
	return engine, err
}

// prove holds what was built against what was asked for. said is what trtexec told, image the version that the image says it has.
func (s *BuildEngine) prove(ctx context.Context, w *pipeline.Work, said buildFacts, image string, version release.Version) (Engine, error) {
	bytes, sum, err := fileSum(ctx, w.Path(planFile))
	if err != nil {
		return Engine{}, err
	}
	onnx, err := os.Stat(w.Input(s.onnx).Path)
	if err != nil {
		return Engine{}, err
	}
	full := onnx.Size()
	if s.onnx.Step == IDCastONNX {
		full *= 2
	}
	described, told := layers{}, false
	if data, err := os.ReadFile(w.Path(layersFile)); err == nil {
		described, told = parseLayers(data)
	}
	e := Engine{
		TensorRT: version.String(), GPU: s.options.Device.key(), GPUUUID: said.Device.UUID, Compute: s.options.Device.Compute, Bytes: bytes, SHA256: sum,
		Precision: provePrecision(s.options.Precision, described, bytes, full), Profile: said.Profile,
	}
	e.Inputs, e.Outputs = described.io()
	said.fillTypes(&e)
	if said.PlanVersion != "" {
		e.TensorRT, e.ReadBack = said.PlanVersion, true
	} else if trtexec.PlanVersionArgs(version, planFile) != nil {
		e.Doubts = append(e.Doubts, "trtexec did not say which TensorRT the engine names: it is taken for that of the image, "+version.String())
	}
	if trtexec.DescribesLayers(version) && !told {
		e.Doubts = append(e.Doubts, "trtexec did not describe the engine's layers: its precision is known by its size alone, its inputs and outputs are not")
	}
	if e.GPUBy, err = said.Device.check(s.options); err != nil {
		return e, err
	}
	if e.GPUBy == "" {
		e.Doubts = append(e.Doubts, "it is not proven that the engine was built on a GPU that was asked for: "+said.Device.took())
	}
	return e, cmp.Or(said.checkSize(bytes), said.checkProfile(s.options), checkVersion(said.PlanVersion, image), e.Precision.check())
}
