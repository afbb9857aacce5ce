//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	assets "github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

// bench runs the real steps with some of them replaced.
type bench struct {
	cpu
	runtime *docker.Runtime
	target  target.Target
	tools   steps.Tools
	store   *store.Store
	name    string // of its workspace
}

func newBench(t *testing.T) *bench {
	t.Helper()
	c := cpuLane(t)
	b := &bench{cpu: c, name: workspace(t.TempDir())}
	var err error
	b.runtime, err = docker.New(docker.Options{
		Host: c.engine.Host, UID: os.Getuid(), GID: os.Getgid(),
		// Without a host's label no dalirun takes its containers for somebody's leavings.
		Labels: container.Labels{container.LabelRun: "bench", container.LabelWorkspace: b.name},
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.store, err = store.Open(c.cache); err != nil {
		t.Fatal(err)
	}
	b.tools = steps.Tools{Runner: b.runtime, Images: b.runtime, Builder: b.runtime, KV: b.store}
	model, err := recipe.Load(recipe.Default)
	if err != nil {
		t.Fatal(err)
	}
	b.target = target.Target{
		Recipe: model, Lane: target.CPU, Source: target.Local, BaseImage: b.base(t), BuildNetwork: "host", Weights: target.WeightsSource{Kind: target.Random},
		Picture: target.Picture{Data: sample(t)}, Precision: "fp32", OptBatch: 64, MaxBatch: 256,
		Ports: target.Ports{
			HTTP: container.Port{Container: triton.PortHTTP}, GRPC: container.Port{Container: triton.PortGRPC}, Metrics: container.Port{Container: triton.PortMetrics},
		},
		ReadyTimeout: 2 * time.Minute,
	}
	b.target.Serving = target.DecideServing(target.Serving{}, b.target, 0)
	return b
}

// values returns what a step made in the first run.
func (b *bench) values(t *testing.T, id pipeline.ID) pipeline.Values {
	t.Helper()
	var values pipeline.Values
	err := b.run(t, b.steps(id), func(_ context.Context, v pipeline.Values) error {
		values = v
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func (b *bench) steps(until pipeline.ID) []pipeline.Step {
	return steps.For(b.target, b.tools, until)
}

func (b *bench) run(t *testing.T, list []pipeline.Step, then func(context.Context, pipeline.Values) error) error {
	t.Helper()
	log := &eventLog{}
	r := pipeline.Runner{RunID: "bench", Workspace: b.name, Store: b.store, Sink: log, Cleanup: time.Minute, Then: then}
	err := r.Run(t.Context(), list)
	if then == nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(log.text.String())
			}
		})
	}
	return err
}

// eventLog keeps the events as lines.
type eventLog struct{ text output }

func (l *eventLog) Emit(e pipeline.Event) {
	if line, err := e.MarshalJSON(); err == nil {
		_, _ = l.text.Write(append(line, '\n'))
	}
}

// fixed is a step that has its results already.
type fixed struct {
	id     pipeline.ID
	values pipeline.Values
}

func (f fixed) ID() pipeline.ID           { return f.id }
func (f fixed) Inputs() []pipeline.Output { return nil }
func (f fixed) Outputs() []pipeline.Output {
	var out []pipeline.Output
	for name := range f.values {
		out = append(out, pipeline.Output{Step: f.id, Name: name})
	}
	return out
}

func (f fixed) Run(_ context.Context, w *pipeline.Work) error {
	for name, value := range f.values {
		w.Set(name, value)
	}
	return nil
}

// verify serves a model repository and verifies it against the reference of the sample.
func (b *bench) verify(t *testing.T, repository string, change func(*target.Target)) error {
	t.Helper()
	reference := b.values(t, steps.IDReference)
	if change != nil {
		change(&b.target)
	}
	list := b.steps(steps.IDVerify)
	for i, s := range list {
		switch s.ID() {
		case steps.IDAssembleRepository:
			list[i] = fixed{s.ID(), pipeline.Values{"model_repository": {Path: repository}}}
		case steps.IDReference:
			list[i] = fixed{s.ID(), reference}
		}
	}
	return b.run(t, list, nil)
}

// repository returns a copy of the model repository that can be changed.
func (b *bench) repository(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "models")
	if err := command(t, "cp", "-r", b.values(t, steps.IDAssembleRepository)["model_repository"].Path, to); err != nil {
		t.Fatal(err)
	}
	if err := command(t, "chmod", "-R", "u+w", to); err != nil { // what is committed is read-only
		t.Fatal(err)
	}
	return to
}

// python runs a program of assets/python in an image, with some of its text replaced, and its results in dir.
func (b *bench) python(t *testing.T, image pipeline.ID, dir, text string, args ...string) {
	t.Helper()
	programs := t.TempDir()
	shared, err := assets.Assets.ReadFile("assets/python/program.py")
	if err != nil {
		t.Fatal(err)
	}
	write(t, programs, "program.py", shared)
	write(t, programs, "main.py", []byte(text))
	var out output
	c, err := b.runtime.Run(t.Context(), container.Spec{
		Step: "alter", Image: b.values(t, image)["image"].Ref, Command: append([]string{"python3", "/programs/main.py"}, args...),
		Env: map[string]string{"HOME": "/tmp", "USER": "dalirun"}, Network: container.NetworkNone,
		Inputs: []container.Mount{{Source: programs, Target: "/programs"}}, Outputs: []container.Mount{{Source: dir, Target: "/out"}},
		Init: true, Role: container.RoleBatch,
	}, container.Streams{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err = errors.Join(err, b.runtime.Remove(context.WithoutCancel(t.Context()), c.ID())); err != nil || exit.Code != 0 {
		t.Fatalf("%v, exit code %d\n%s", err, exit.Code, &out)
	}
}

// dali puts the DALI pipeline of an altered program into a model repository.
func (b *bench) dali(t *testing.T, repository, mean, old, by string) {
	t.Helper()
	text, err := assets.Assets.ReadFile("assets/python/serialize_dali.py")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("serialize_dali.py has %q %d times", old, n)
	}
	b.python(t, steps.IDServerImage, filepath.Join(repository, "dali", "1"), strings.Replace(string(text), old, by, 1),
		"--size", "224", "--mean", mean, "--std", "0.229,0.224,0.225", "--device", "cpu", "--max-batch", "256", "--threads", "2", "--output", "/out/model.dali")
}

// otherHead turns the classifier's last layer upside down, as if it were of another training.
const otherHead = `
import onnx
from onnx import numpy_helper
model = onnx.load("/out/model.onnx")
for tensor in model.graph.initializer:
    if tensor.name == "fc.weight":
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
onnx.save(model, "/out/model.onnx")
`

// TestVerifyFails is the negative control of the three comparisons: each sees what it is there for, on the real server.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		alter  func(t *testing.T, b *bench, repository string)
		change func(*target.Target)
		off    []parity.Name
	}{
		{
			name: "nothing",
		},
		{
			name: "wrong mean",
			alter: func(t *testing.T, b *bench, repository string) {
				t.Helper()
				b.dali(t, repository, "0.5,0.5,0.5", "output_type=types.RGB", "output_type=types.RGB")
			},
			off: []parity.Name{parity.Preprocessing, parity.Ensemble},
		},
		{
			name: "swapped channels",
			alter: func(t *testing.T, b *bench, repository string) {
				t.Helper()
				b.dali(t, repository, "0.485,0.456,0.406", "output_type=types.RGB", "output_type=types.BGR")
			},
			off: []parity.Name{parity.Preprocessing, parity.Ensemble},
		},
		{
			name: "other weights",
			alter: func(t *testing.T, b *bench, repository string) {
				t.Helper()
				b.python(t, steps.IDExporterImage, filepath.Join(repository, "resnet50_onnx", "1"), otherHead)
			},
			off: []parity.Name{parity.Model, parity.Ensemble},
		},
		{
			name:   "another picture",
			change: func(o *target.Target) { o.Picture.Data = mirrored(o.Picture.Data) },
			off:    []parity.Name{parity.Preprocessing, parity.Ensemble},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			repository := b.repository(t)
			if test.alter != nil {
				test.alter(t, b, repository)
			}
			err := b.verify(t, repository, test.change)
			t.Log(err)
			if len(test.off) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.NotVerified || !errors.Is(err, parity.ErrOff) {
				t.Fatalf("%v is no verification that failed", err)
			}
			for _, comparison := range []parity.Name{parity.Preprocessing, parity.Model, parity.Ensemble} {
				if got, want := strings.Contains(err.Error(), string(comparison)+" is off ("), slices.Contains(test.off, comparison); got != want {
					t.Errorf("%s is off: %t, want %t", comparison, got, want)
				}
			}
			if left := b.engine.containers(t, b.name); len(left) != 0 {
				t.Errorf("containers are left: %v", left)
			}
		})
	}
}

// mirrored returns another picture: the same seen in a mirror.
func mirrored(data []byte) []byte {
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		panic(err) // of the sample that dalirun carries
	}
	size := picture.Bounds()
	other := image.NewRGBA(size)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			other.Set(size.Max.X-1-x+size.Min.X, y, picture.At(x, y))
		}
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, other, &jpeg.Options{Quality: 90}) // into memory
	return b.Bytes()
}

// TestModelsThatDoNotLoad breaks the model repository under the real server.
func TestModelsThatDoNotLoad(t *testing.T) {
	t.Parallel()
	const hang = "import time\n\n\nclass TritonPythonModel:\n    def initialize(self, args):\n        time.sleep(3600)\n"
	const soon, late = 10 * time.Second, 2 * time.Minute // no machine is so slow that a failure comes late
	for _, test := range []struct {
		name, file string
		text       string // of the file; empty cuts it short
		ready      time.Duration
		says       []string
	}{
		{"cut short", "resnet50_onnx/1/model.onnx", "", late, []string{"resnet50_onnx", "model.onnx"}},
		{"hangs", "dali/1/model.py", hang, soon, []string{"model dali is still loading after 10s"}},
		{"raises", "dali/1/model.py", "raise RuntimeError('no luck')\n", late, []string{"dali", "no luck"}},
		{"no configuration", "resnet50_onnx/config.pbtxt", "nonsense {", late, []string{"resnet50_onnx"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			repository := b.repository(t)
			file := filepath.Join(repository, filepath.FromSlash(test.file))
			if test.text == "" {
				truncate(t, file)
			} else {
				remove(t, file)
				write(t, filepath.Dir(file), path.Base(test.file), []byte(test.text))
			}
			began := time.Now()
			err := b.verify(t, repository, func(o *target.Target) { o.ReadyTimeout = test.ready })
			fault, ok := errors.AsType[*pipeline.Fault](err)
			if !ok || fault.Kind != pipeline.NotReady {
				t.Fatalf("%v is no server that is not ready", err)
			}
			t.Logf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
			for _, part := range test.says {
				if all := err.Error() + strings.Join(fault.Tail, "\n"); !strings.Contains(all, part) {
					t.Errorf("%q is not in:\n%s", part, all)
				}
			}
			if left := b.engine.containers(t, b.name); len(left) != 0 {
				t.Errorf("containers are left: %v", left)
			}
		})
	}
}
