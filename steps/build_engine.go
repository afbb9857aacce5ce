package steps

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// BuildEngine builds the TensorRT engine with the trtexec of the image that serves it, so that their TensorRT is the
// same.
type BuildEngine struct {
	image     pipeline.Output
	onnx      pipeline.Output
	cast      bool // the ONNX model is in fp16 already
	precision release.Precision
	optBatch  int
	size      int // of each side of a picture, in pixels
	maxBatch  int
	tensorRT  string // the release's, for an image that does not name its own; empty where it is not known
	device    target.Device

	gpus        gpuRequest                                       `fact:"-"`
	chosen      []host.GPU                                       `fact:"-"` // as far as they are known
	turn        *GPUTurn                                         `fact:"-"` // see [Tools]
	neighbours  func(context.Context) ([]host.Process, error)    `fact:"-"` // see [Tools]
	gpuMemory   func(context.Context) (trtexec.GPUMemory, error) `fact:"-"` // see [Tools]
	timingCache TimingCache                                      `fact:"-"`
	notes       imageNotes                                       `fact:"-"`
	containers  containers                                       `fact:"-"`
}

func newBuildEngine(t target.Target, tools Tools, image, onnx pipeline.Output, cast bool) *BuildEngine {
	return &BuildEngine{
		image: image, onnx: onnx, cast: cast, precision: t.Precision, optBatch: t.OptBatch, maxBatch: t.MaxBatch,
		size:     t.Recipe.Input.Size,
		tensorRT: t.Release.TensorRT, device: t.Device,
		gpus: newGPURequest(t), chosen: t.Chosen, turn: tools.GPUTurn, neighbours: tools.Neighbours,
		gpuMemory: tools.GPUMemory, timingCache: tools.TimingCache, notes: imageNotes{tools.KV},
		containers: newContainers(tools),
	}
}

const (
	planFile   = "model.plan"
	engineFile = "engine.json"
	onnxTarget = "/in/" + onnxFile
	modelInput = "input" // as export_onnx.py names it
	// The files that the build writes beside the engine, and that are no outputs.
	layersFile      = "layers.json"
	timingCacheFile = "timing.cache"

	// gpuProofFact is a fact that makes engines be built anew that were stored before their GPU was proven.
	gpuProofFact = "gpu proof"
)

// ID returns build-engine.
func (s *BuildEngine) ID() pipeline.ID { return IDBuildEngine }

// Inputs are the image with trtexec and the ONNX model.
func (s *BuildEngine) Inputs() []pipeline.Output { return []pipeline.Output{s.image, s.onnx} }

// Outputs are the engine, and engine.json, which holds what was proven of it.
func (s *BuildEngine) Outputs() []pipeline.Output {
	return []pipeline.Output{s.plan(), s.engine()}
}

func (s *BuildEngine) plan() pipeline.Output {
	return pipeline.Output{Step: IDBuildEngine, Name: planFile}
}

func (s *BuildEngine) engine() pipeline.Output {
	return pipeline.Output{Step: IDBuildEngine, Name: engineFile}
}

// engineBuild is the call of trtexec that builds the engine.
type engineBuild struct {
	trtexec.Build
	// whose dialect the command is in: the image's own, or the release's where the image does not say
	tensorRT release.Version
	image    string // what the image says of its TensorRT; empty where it says nothing
	command  []string
}

// newBuild returns the build in an image with the environment env.
func (s *BuildEngine) newBuild(env map[string]string) (engineBuild, error) {
	b := engineBuild{image: env["TRT_VERSION"]}
	text := cmp.Or(b.image, s.tensorRT)
	var err error
	if b.tensorRT, err = release.ParseVersion(text); err != nil {
		return b, pipeline.Faultf(pipeline.Environment,
			"name a release with --release YY.MM, for NVIDIA's plain -py3 image",
			"the image does not say which TensorRT it holds (TRT_VERSION=%q)", text)
	}
	b.Build = trtexec.Build{
		ONNX: onnxTarget, Plan: outDir + "/" + planFile, Input: modelInput, Size: s.size,
		MinBatch: 1, OptBatch: s.optBatch, MaxBatch: s.maxBatch,
		Precision: s.precision, Cast: s.cast, TimingCache: outDir + "/" + timingCacheFile,
	}
	if trtexec.DescribesLayers(b.tensorRT) {
		b.LayerInfo = outDir + "/" + layersFile
	}
	b.command, err = trtexec.Command(b.tensorRT, b.Build)
	if errors.Is(err, trtexec.ErrNeedsCast) {
		return b, &pipeline.Fault{
			Kind: pipeline.Environment, Err: err,
			Hint: "--precision fp32 builds without a cast; so does an older release, which --release names",
		}
	}
	if err != nil {
		return b, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: "choose another release with --release"}
	}
	return b, nil
}

// requestedGPU describes the GPU that the engine is for.
func (s *BuildEngine) requestedGPU() trtexec.RequestedGPU {
	return trtexec.RequestedGPU{
		Flag: s.gpus.String(), Model: s.device.Name, Location: s.device.Location, Compute: s.device.Compute,
		UUIDs: s.gpus.uuids,
	}
}

// Facts are trtexec's arguments, TensorRT's version and the GPU: an engine runs only on what it was built for.
func (s *BuildEngine) Facts(_ context.Context, in pipeline.Inputs) (pipeline.Facts, error) {
	env, err := s.notes.environment(in[s.image])
	if err != nil {
		return nil, err
	}
	build, err := s.newBuild(env)
	if err != nil {
		return nil, err
	}
	return pipeline.Facts{
		"argv": argv(build.command), "tensorrt": build.tensorRT.String(),
		"gpu": s.device.Key(), gpuProofFact: "what trtexec says that it took",
		"compute": s.device.Compute, "driver": s.device.Driver,
	}, nil
}

// Run builds the engine and proves that it is as requested.
func (s *BuildEngine) Run(ctx context.Context, w *pipeline.Work) error {
	env, err := s.notes.environment(w.Input(s.image))
	if err != nil {
		return err
	}
	build, err := s.newBuild(env)
	if err != nil {
		return err
	}
	release, err := s.turn.Take(ctx, "builds an engine", w.Emit)
	if err != nil {
		return err
	}
	defer release()
	engine, err := s.buildInTurn(ctx, w, build)
	if err != nil {
		return err
	}
	for _, payload := range engineReport(engine) {
		w.Emit(payload)
	}
	w.Emit(pipeline.Line{Text: "engine: " + engine.String()})
	return engine.WriteFile(w.Path(engineFile))
}

// buildInTurn builds the engine while no other job of this host builds or measures on its GPUs.
func (s *BuildEngine) buildInTurn(ctx context.Context, w *pipeline.Work, build engineBuild) (trtexec.Engine, error) {
	memory, err := s.readGPUMemory(ctx, w)
	if err == nil {
		err = trtexec.CheckMemory(build.Precision, build.MaxBatch, memory)
	}
	if err != nil {
		return trtexec.Engine{}, err
	}
	beside := s.lookAround(ctx, w)
	loaded := s.loadTimingCache(ctx, w)
	engine, timed, err := s.build(ctx, w, build, memory)
	switch {
	case err == nil && beside.none(ctx, w) && timed:
		s.keepTimingCache(ctx, w)
	case loaded && suspectsTimingCache(err):
		s.forgetTimingCache(ctx, w)
	}
	return engine, err
}

// Remind reports what was proven of a stored engine, and warns of what was not.
func (s *BuildEngine) Remind(stored pipeline.Values) []pipeline.Payload {
	engine, err := trtexec.ReadEngine(stored[engineFile].Path)
	if err != nil || engine.SHA256 == "" {
		return nil
	}
	return engineReport(engine)
}

// engineReport returns what each run that uses an engine reports of it.
func engineReport(e trtexec.Engine) []pipeline.Payload {
	report := []pipeline.Payload{result.Engine.New(e)}
	for _, doubt := range e.Doubts {
		report = append(report, pipeline.Warning{Text: doubt})
	}
	return report
}

// readGPUMemory returns the GPU's memory, and zero where the host does not know it.
func (s *BuildEngine) readGPUMemory(ctx context.Context, w *pipeline.Work) (trtexec.GPUMemory, error) {
	if s.gpuMemory == nil {
		return trtexec.GPUMemory{}, nil
	}
	memory, err := s.gpuMemory(ctx)
	if ctx.Err() != nil {
		return trtexec.GPUMemory{}, context.Cause(ctx)
	}
	if err != nil {
		w.Emit(pipeline.Warning{Text: "the GPU's free memory is not known: " + err.Error()})
		memory = trtexec.GPUMemory{}
	}
	return memory, nil
}

// build runs trtexec and returns what was proven of the engine, and whether there is something in its timing cache.
// memory is the GPU's before the build.
func (s *BuildEngine) build(
	ctx context.Context, w *pipeline.Work, build engineBuild, memory trtexec.GPUMemory,
) (engine trtexec.Engine, timed bool, err error) {
	spec := s.containers.spec(IDBuildEngine, w.Input(s.image).Ref, build.command...)
	spec.GPUs = s.gpus.GPUs
	spec.Inputs = []container.Mount{{Source: w.Input(s.onnx).Path, Target: onnxTarget}}
	spec.Outputs = []container.Mount{{Source: w.Dir, Target: outDir}}
	log := trtexec.NewLog(func(text string) { w.Emit(pipeline.Progress{Text: text}) })
	last := &tail{read: log.Read}
	const limit = time.Hour // seen: 78 s on an H100; small GPUs take many minutes
	err = s.containers.run(ctx, w, spec, last, limit)
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok && last.remedyID == remedy.GPUOutOfMemory {
		trtexec.ExplainOutOfMemory(fault, build.Precision, build.MaxBatch, memory)
	}
	if err != nil {
		return engine, false, err
	}
	plan, err := os.Stat(w.Path(planFile))
	// trtexec has been seen to end well after it could not save
	if errors.Is(err, fs.ErrNotExist) || err == nil && plan.Size() == 0 {
		fault := &pipeline.Fault{
			Kind: pipeline.ContainerFailed, Err: errors.New("trtexec ended well but saved no engine"),
			Hint: "its log says why; a full disk is the usual reason: " + remedy.FreeCacheDisk,
			Tail: last.lines(), Repeat: s.containers.runner.Repeat(spec),
		}
		last.explain(fault)
		return engine, false, fault
	}
	if err != nil {
		return engine, false, err
	}
	facts := log.Facts()
	engine, err = s.prove(ctx, w, build, facts)
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		fault.Tail, fault.Repeat = last.lines(), s.containers.runner.Repeat(spec)
	}
	return engine, !facts.EmptyTimingCache, err
}

// prove compares the engine that was built with the request.
func (s *BuildEngine) prove(
	ctx context.Context, w *pipeline.Work, build engineBuild, facts trtexec.LogFacts,
) (trtexec.Engine, error) {
	bytes, sum, err := fileSum(ctx, w.Path(planFile))
	if err != nil {
		return trtexec.Engine{}, err
	}
	onnx, err := os.Stat(w.Input(s.onnx).Path)
	if err != nil {
		return trtexec.Engine{}, err
	}
	layers, err := os.ReadFile(w.Path(layersFile))
	if err != nil {
		layers = nil // trtexec exported no layers, which Prove reports as a doubt
	}
	engine, err := trtexec.Prove(build.Build, s.requestedGPU(), trtexec.Evidence{
		Log: facts, LayerInfo: layers, PlanBytes: bytes, PlanSHA256: sum, ONNXBytes: onnx.Size(),
		TensorRT: build.tensorRT, ImageTensorRT: build.image,
	})
	if _, ok := errors.AsType[*trtexec.OtherGPUError](err); ok {
		err = &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: otherGPUsHint}
	}
	return engine, err
}
