package steps_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// world is a machine on which steps run: a fake container runtime, whose images hold programs that read and write what
// the real ones do, and a Triton server in this process behind the fake tritonserver.
type world struct {
	fake   *containertest.Fake
	kv     *memoryKV
	target target.Target
	tools  steps.Tools

	// triton answers for the server's container; triton's constructor is put off until something is served.
	triton func() *tritontest.Server

	smi containertest.Program // nvidia-smi, which the runtime puts into containers with GPUs

	ends chan string // how each server ended: drained or killed

	dir    string
	values pipeline.Inputs // of the steps that were run

	mu       sync.Mutex
	programs map[pipeline.ID]containertest.Program // in place of what an image holds
	packages string                                // the list of package versions in a local image
	payloads []pipeline.Payload
	undos    []func(context.Context) error
}

// cases are the lanes, image sources and releases that the golden files hold. Together they have every kind of weights.
func cases() map[string]func(*testing.T) *world {
	return map[string]func(*testing.T) *world{
		"cpu-local":     cpuLocal,
		"cpu-ngc":       cpuNGC,
		"gpu-ngc-25.03": gpuNGC,
		"gpu-ngc-21.07": tutorial,
		"gpu-ngc-26.06": tensorRT11,
	}
}

// cpuLocal has images that are built here, and seeded weights.
func cpuLocal(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, target.Target{
		Lane: target.CPU, Source: target.Local, Precision: "fp32",
		BaseImage: "debian:bookworm-slim", BuildNetwork: "host",
		Weights: target.WeightsSource{Kind: target.Random, Seed: 7},
	})
	w.tools.BuildArgs, w.tools.CABundle = map[string]string{"HTTPS_PROXY": "http://proxy:3128"}, []byte("certificates")
	return w
}

// cpuNGC has NVIDIA's images without a GPU, and torchvision's weights.
func cpuNGC(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, target.Target{
		Lane: target.CPU, Source: target.NGC, Precision: "fp32", Release: find(t, "25.03"),
		Weights: target.PretrainedWeights(resnet50(t)),
	})
	const content = "what torchvision's weights are in these tests"
	w.target.Weights.Remote.SHA256, w.target.Weights.Remote.Bytes = strings.TrimPrefix(sum(content), "sha256:"), int64(len(content))
	w.tools.Fetcher = gives(content)
	return w
}

// gpuNGC is the mission: all of the server's work in the server image of a release whose TensorRT is 10.9.
func gpuNGC(t *testing.T) *world {
	t.Helper()
	return newWorld(t, target.Target{
		Lane: target.GPU, Source: target.NGC, Precision: "fp16", Release: find(t, "25.03"), Device: h100,
		Weights: target.WeightsSource{Kind: target.Random},
	})
}

// tensorRT11 is a release whose TensorRT builds what the ONNX model says.
func tensorRT11(t *testing.T) *world {
	t.Helper()
	return newWorld(t, target.Target{
		Lane: target.GPU, Source: target.NGC, Precision: "fp16", Release: find(t, "26.06"), Device: h100,
		Weights: target.WeightsSource{Kind: target.Random},
	})
}

// tutorial is the release that the tutorial used, as it used it, with a user's weights.
func tutorial(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, target.Target{
		Lane: target.GPU, Source: target.NGC, Precision: "fp16", Release: find(t, "21.07"), Device: h100, OptBatch: 1,
	})
	w.target.Weights = target.WeightsSource{Kind: target.File, Path: filepath.Join(w.dir, "mine.pth")}
	if err := os.WriteFile(w.target.Weights.Path, []byte("a user's weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

var (
	h100 = target.Device{Name: "NVIDIA H100 80GB HBM3", Compute: "9.0", Driver: "580.159.04"}

	coffee = sync.OnceValue(func() []byte {
		data, err := dalirun.Assets.ReadFile("assets/pictures/coffee.jpg")
		if err != nil {
			panic(err)
		}
		return data
	})
)

func find(t *testing.T, tag string) release.Release {
	t.Helper()
	r, err := release.Find(tag)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newWorld returns a world for the target o, which it completes by settings that most tests share.
func resnet50(t *testing.T) recipe.Recipe {
	t.Helper()
	r, err := recipe.Load(recipe.Default)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newWorld(t *testing.T, o target.Target) *world {
	t.Helper()
	o.Recipe, o.Picture = resnet50(t), target.Picture{Data: coffee()}
	o.MaxBatch = 256
	if o.OptBatch == 0 {
		o.OptBatch = 64
	}
	o.GPUs = container.GPUs{Count: container.AllGPUs}
	o.Ports.HTTP.Container, o.Ports.GRPC.Container, o.Ports.Metrics.Container = triton.PortHTTP, triton.PortGRPC, triton.PortMetrics
	o.ReadyTimeout = 20 * time.Second
	o.Serving = target.DecideServing(target.Serving{}, o, 16)
	w := &world{
		kv: &memoryKV{}, target: o, dir: t.TempDir(), ends: make(chan string, 10), values: pipeline.Inputs{}, packages: "python3 3.11\n",
		programs: map[pipeline.ID]containertest.Program{}, smi: listsGPU,
	}
	w.triton = sync.OnceValue(func() *tritontest.Server { return tritontest.New(t, served(o.Lane, faults{})...) })
	w.fake = &containertest.Fake{OnBuild: w.build}
	w.tools = steps.Tools{Runner: w.fake, Images: w.fake, Builder: w.fake, KV: w.kv}
	if o.Source == target.Local {
		w.fake.AddLocal(o.BaseImage, containertest.Image{})
	} else {
		w.target.Images.Exporter.Ref, w.target.Images.Server.Ref = o.Release.ExporterRef(""), o.Release.ServerRef("")
		w.fake.AddRemote(w.target.Images.Exporter.Ref, w.image("exporter", o.Release.TensorRT))
		w.fake.AddRemote(w.target.Images.Server.Ref, w.image("server", o.Release.TensorRT))
	}
	return w
}

// tune asks for an engine that is tuned for a batch, and serves it as a run would.
func (w *world) tune(batch int) {
	w.target.OptBatch = batch
	w.target.Serving = target.DecideServing(target.Serving{}, w.target, 16)
}

// image returns an image that holds the fake programs.
func (w *world) image(name, tensorRT string) containertest.Image {
	return containertest.Image{
		Image: container.Image{Digest: sum(name), Env: map[string]string{"TRT_VERSION": tensorRT}},
		Main:  w.main,
		Commands: map[string]containertest.Program{"nvidia-smi": func(ctx context.Context, spec container.Spec, out container.Streams) int {
			return w.smi(ctx, spec, out)
		}},
	}
}

func (w *world) build(_ context.Context, spec container.BuildSpec, onProgress func(container.Progress)) (containertest.Image, error) {
	onProgress(container.Progress{Text: "Step 1/1 : FROM base", Current: 1, Total: 1, Instruction: "FROM"})
	onProgress(container.Progress{Text: "Step 2/1 : of a program\r"})
	return containertest.Image{Image: container.Image{ID: sum(time.Now().String()), Labels: spec.Labels}, Main: w.main}, nil
}

// list returns the steps up to until.
func (w *world) list(until pipeline.ID) []pipeline.Step {
	return steps.For(w.target, w.tools, until)
}

func (w *world) step(id pipeline.ID) pipeline.Step {
	list := w.list(id)
	return list[len(list)-1]
}

// make runs the steps that id reads from, and returns id's inputs.
func (w *world) make(t *testing.T, id pipeline.ID) pipeline.Inputs {
	t.Helper()
	in := pipeline.Inputs{}
	for _, o := range w.step(id).Inputs() {
		if _, ok := w.values[o]; !ok {
			if err := w.run(t, t.Context(), o.Step); err != nil {
				t.Fatalf("%s: %v", o.Step, err)
			}
		}
		in[o] = w.values[o]
	}
	return in
}

// run runs one step as a Runner does, after those that it reads from.
func (w *world) run(t *testing.T, ctx context.Context, id pipeline.ID) error { //nolint:revive // t comes first
	t.Helper()
	in := w.make(t, id) //nolint:contextcheck // ctx is that of the step alone
	return w.runStep(t, ctx, w.step(id), in)
}

// runStep runs a step as a Runner does. The test's end undoes what it deferred.
func (w *world) runStep(t *testing.T, ctx context.Context, s pipeline.Step, in pipeline.Inputs) error { //nolint:revive // t comes first
	t.Helper()
	id, dir := s.ID(), ""
	if _, ok := s.(pipeline.Builder); ok {
		dir = filepath.Join(w.dir, string(id))
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	work := pipeline.NewWork(dir, in, w.emit, func(_ string, undo func(context.Context) error) { //nolint:contextcheck // what is undone outlives ctx
		w.mu.Lock()
		defer w.mu.Unlock()
		w.undos = append(w.undos, undo)
		if len(w.undos) == 1 {
			t.Cleanup(func() { w.undo(t) })
		}
	})
	if err := s.Run(ctx, work); err != nil {
		return err
	}
	for _, o := range s.Outputs() {
		v, ok := work.Values()[o.Name]
		if dir != "" {
			v.Path = filepath.Join(dir, o.Name)
			_, err := os.Stat(v.Path)
			ok, v.Digest = err == nil, o.String()
		}
		if !ok {
			t.Errorf("%s did not make %s", id, o.Name)
		}
		w.values[o] = v
	}
	return nil
}

// undo does what the steps deferred, last first, and checks that no container is left.
func (w *world) undo(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	for _, undo := range slices.Backward(w.undos) {
		if err := undo(ctx); err != nil {
			t.Errorf("undo: %v", err)
		}
	}
	w.undos = nil
	w.wantNoContainer(t)
}

func (w *world) wantNoContainer(t *testing.T) {
	t.Helper()
	if left := w.fake.Leaked(); len(left) > 0 {
		t.Errorf("containers are left: %+v", left)
	}
}

func (w *world) emit(p pipeline.Payload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.payloads = append(w.payloads, p)
}

// resultOf returns the result of a name that was emitted last, and whether there is one.
func resultOf[T any](t *testing.T, w *world, name result.Name[T]) (value T, ok bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range slices.Backward(w.payloads) {
		if r, is := p.(pipeline.Result); is && r.Name == string(name) {
			value, err := name.Value(r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return value, true
		}
	}
	return value, false
}

// ran returns the steps that ran a container, each once.
func (w *world) ran() []string {
	var ids []string
	for _, s := range w.fake.Specs() {
		ids = append(ids, s.Step)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// facts are the facts of a builder.
func (w *world) facts(t *testing.T, id pipeline.ID) pipeline.Facts {
	t.Helper()
	in := w.make(t, id)
	facts, err := w.builder(t, id).Facts(t.Context(), in)
	if err != nil {
		t.Fatalf("facts of %s: %v", id, err)
	}
	return facts
}

// observe returns the state and values of an image step.
func (w *world) observe(t *testing.T, id pipeline.ID) (pipeline.State, pipeline.Values) {
	t.Helper()
	state, values, err := w.observer(t, id).Observe(t.Context(), nil)
	if err != nil {
		t.Fatalf("observe %s: %v", id, err)
	}
	return state, values
}

func (w *world) builder(t *testing.T, id pipeline.ID) pipeline.Builder {
	t.Helper()
	b, ok := w.step(id).(pipeline.Builder)
	if !ok {
		t.Fatalf("%s is no builder", id)
	}
	return b
}

func (w *world) observer(t *testing.T, id pipeline.ID) pipeline.Observer {
	t.Helper()
	o, ok := w.step(id).(pipeline.Observer)
	if !ok {
		t.Fatalf("%s is no observer", id)
	}
	return o
}

// wantFault checks that err is a Fault of a kind.
func wantFault(t *testing.T, err error, kind pipeline.Kind) {
	t.Helper()
	_ = fault(t, err, kind)
}

// fault is the Fault that err is once a runner had it explained; it must be of a kind.
func fault(t *testing.T, err error, kind pipeline.Kind) *pipeline.Fault {
	t.Helper()
	f, ok := errors.AsType[*pipeline.Fault](remedy.Explainer{}.Explain(err))
	if !ok || f.Kind != kind {
		t.Fatalf("got the error %#v (%v), want a fault of kind %d", err, err, kind)
	}
	return f
}

// memoryKV is a KV in memory.
type memoryKV struct {
	mu     sync.Mutex
	values map[string]string
	// wrote counts the calls of Remember.
	wrote int
}

func (m *memoryKV) Recall(key string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	return value, ok
}

func (m *memoryKV) Remember(key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string]string{}
	}
	m.values[key] = value
	m.wrote++
	return nil
}

type fetcher func(ctx context.Context, url, path string, most int64, onProgress func(current, total int64)) (string, error)

func (f fetcher) Fetch(ctx context.Context, url, path string, most int64, onProgress func(current, total int64)) (string, error) {
	return f(ctx, url, path, most, onProgress)
}

// gives is a fetcher that finds content at every URL, after a redirect to a mirror.
func gives(content string) fetcher {
	return func(_ context.Context, url, path string, _ int64, onProgress func(int64, int64)) (string, error) {
		onProgress(1, int64(len(content)))
		return strings.Replace(url, "https://", "https://mirror.example/", 1), os.WriteFile(path, []byte(content), 0o600)
	}
}
