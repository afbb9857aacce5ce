package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// A world is what stands behind the fake container engine: its images, its registry, and how its programs behave.
type world struct {
	tb testing.TB
	// packages says whether images can be built.
	packages bool
	// failure is what the container engine answers when it is asked what it is.
	failure error
	// silent begins the names of the images about which the container engine never answers.
	silent string
	// registry is what a pull fails with.
	registry error
	// remote are the images that can be pulled.
	remote []string
	// breaks is the program that fails; hangs is the one that does not end by itself. Both are file names.
	breaks, hangs string
	// begun, if set, is closed when the program that hangs has begun.
	begun chan struct{}
	// store is where the container engine says that it stores images.
	store string
	// runtimes and devices are those that the container engine says it has.
	runtimes, devices []string
	// wrong lets the served model give other answers than PyTorch.
	wrong bool
	// tensor is the one that DALI makes of a picture; nil is PyTorch's own.
	tensor func() []float32
	// dies ends a model's process once the server is ready.
	dies bool
	// overflows lets the server say, once it is ready, that its pool of GPU memory is full.
	overflows bool
	// talks lets the server say that it drained.
	talks bool
}

var errNoRegistry = errors.New(`Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`) //nolint:staticcheck // the words of Go's HTTP client

// worlds are those that a script can name.
func worlds(tb testing.TB, name string) (world, bool) {
	tb.Helper()
	w, ok := map[string]world{
		"silent":  {silent: "nvcr.io/nvidia/pytorch"},
		"mute":    {silent: "dalirun/", packages: true, registry: errNoRegistry},
		"failing": {failure: errors.New("the store is broken")},
		"runner": {
			packages: true, store: os.TempDir(), remote: []string{"nvcr.io/nvidia/pytorch:25.03-py3", "nvcr.io/nvidia/tritonserver:25.03-py3"},
		},
		"cold":        {registry: errNoRegistry},
		"pulling":     {remote: []string{"nvcr.io/nvidia/pytorch:25.03-py3", "nvcr.io/nvidia/tritonserver:25.03-py3"}},
		"stored":      {registry: errNoRegistry, store: os.TempDir(), runtimes: []string{"nvidia"}},
		"runtime":     {registry: errNoRegistry, runtimes: []string{"nvidia"}},
		"cdi":         {registry: errNoRegistry, devices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}},
		"denied":      {registry: errors.New("unauthorized: authentication required")},
		"full":        {registry: errors.New("write /var/lib/docker/tmp/GetImageBlob1: no space left on device")},
		"stocked":     {registry: errNoRegistry, packages: true},
		"breaking":    {registry: errNoRegistry, packages: true, breaks: "export_onnx.py"},
		"serverless":  {registry: errNoRegistry, packages: true, breaks: "tritonserver"},
		"wrong":       {registry: errNoRegistry, packages: true, wrong: true},
		"dying":       {registry: errNoRegistry, packages: true, dies: true},
		"overflowing": {registry: errNoRegistry, packages: true, overflows: true},
		"talking":     {registry: errNoRegistry, packages: true, talks: true},
	}[name]
	w.tb = tb
	return w, ok
}

func (w world) fake() *containertest.Fake {
	f := &containertest.Fake{
		About:   container.Info{Version: "20.10.24", RootDir: w.store, Runtimes: w.runtimes, CDIDevices: w.devices},
		InfoErr: w.failure,
		OnPull:  func(context.Context, string, func(container.Progress)) error { return w.registry },
		OnBuild: func(_ context.Context, spec container.BuildSpec, tell func(container.Progress)) (containertest.Image, error) {
			tell(container.Progress{Text: "Step 1/2 : FROM " + spec.Args["BASE"]})
			return containertest.Image{Main: w.run}, nil
		},
	}
	if w.silent != "" {
		f.OnResolve = func(ctx context.Context, ref string) error {
			if !strings.HasPrefix(ref, w.silent) {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
	}
	for _, ref := range w.remote {
		f.AddRemote(ref, containertest.Image{Image: container.Image{Digest: "sha256:" + strings.Repeat("1", 64), Size: 1 << 30}, Main: w.run})
	}
	if w.packages {
		f.AddLocal(target.UsualBaseImage, containertest.Image{})
		f.AddLocal("team/debian:12", containertest.Image{})
	}
	return f
}

// run is the entrypoint of both local images.
func (w world) run(ctx context.Context, spec container.Spec, out container.Streams) int {
	program := path.Base(spec.Command[0])
	if program == "python3" {
		program = path.Base(spec.Command[1])
	}
	switch program {
	case w.breaks:
		fmt.Fprintln(out.Stdout, "loading "+program)
		fmt.Fprintln(out.Stderr, "error: the tensor is upside down")
		return 1
	case w.hangs:
		close(w.begun)
		<-ctx.Done()
		return 0
	}
	if err := w.work(ctx, program, spec, out); err != nil {
		fmt.Fprintln(out.Stderr, err)
		return 1
	}
	return 0
}

func (w world) work(ctx context.Context, program string, spec container.Spec, out container.Streams) error {
	fmt.Fprintln(out.Stderr, program+" is at work")
	switch program {
	case "cat":
		_, err := io.WriteString(out.Stdout, "torch 2.6.0\n")
		return err
	case "seed_weights.py", "export_onnx.py", "serialize_dali.py":
		return write(spec, argument(spec, "--output"), []byte(program))
	case "reference.py":
		dir := argument(spec, "--output-dir")
		return errors.Join(write(spec, dir+"/tensor.f32", encoded(tensor())), write(spec, dir+"/logits.f32", encoded(logits())))
	case "tritonserver":
		return w.serve(ctx, out)
	default:
		return fmt.Errorf("no such program: %q", spec.Command)
	}
}

// serve is tritonserver until SIGTERM. What arrives at its published port goes to a server for tests.
func (w world) serve(ctx context.Context, out container.Streams) error {
	terminated := containertest.Terminated(ctx)
	listener, err := containertest.Listen(ctx, triton.PortGRPC)
	if err != nil {
		return err
	}
	server := tritontest.New(w.tb, w.models()...) //nolint:contextcheck // it ends with its test
	defer server.Stop()
	var inferences atomic.Int64
	server.Intercept(func(_ context.Context, rpc, _ string) error {
		if w.overflows && rpc == "ModelInfer" && inferences.Add(1) > 1 { // the first makes it ready
			fmt.Fprintln(out.Stderr, "W1127 07:10:41.211 1 memory.cc:212] Failed to allocate CUDA memory: CNMEM_STATUS_OUT_OF_MEMORY")
		}
		if w.dies && rpc == "ModelInfer" && inferences.Add(1) == 2 { // the first makes it ready
			server.KillStub("dali")
		}
		return nil
	})
	var forwards sync.WaitGroup
	forwards.Go(func() { // the group counts this one too: none may be added to an empty group that is waited for
		for {
			from, err := listener.Accept()
			if err != nil {
				return // the server ends
			}
			forwards.Go(func() { forward(from, "tcp", server.Addr()) })
		}
	})
	select {
	case <-terminated:
	case <-ctx.Done():
	}
	_ = listener.Close() // the container's end closes it too
	server.Stop()
	forwards.Wait()
	if w.talks {
		fmt.Fprintln(out.Stdout, "\x1b[2Jdrained")
	}
	return nil
}

func forward(from net.Conn, network, addr string) {
	defer func() { _ = from.Close() }() // it may be closed already
	to, err := net.Dial(network, addr)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}

func (w world) models() []tritontest.Model {
	answer := logits()
	if w.wrong {
		answer[0], answer[espresso] = answer[espresso], answer[0]
	}
	preprocessed := tensor()
	if w.tensor != nil {
		preprocessed = w.tensor()
	}
	classify := func([]byte) ([]float32, error) { return answer, nil }
	ensemble := tritontest.Classifier("ensemble_dali_resnet50", labels(), classify)
	ensemble.Requires = []string{"dali", "resnet50_onnx"}
	return []tritontest.Model{
		model("dali", triton.TensorMetadata{Name: "DALI_INPUT_0", Datatype: triton.Uint8, Shape: []int64{-1, -1}},
			triton.TensorMetadata{Name: "DALI_OUTPUT_0", Datatype: triton.FP32, Shape: []int64{-1, 3, 224, 224}}, preprocessed),
		model("resnet50_onnx", triton.TensorMetadata{Name: "input", Datatype: triton.FP32, Shape: []int64{-1, 3, 224, 224}},
			triton.TensorMetadata{Name: "output", Datatype: triton.FP32, Shape: []int64{-1, classes}}, answer),
		ensemble,
	}
}

// model always gives the same answer.
func model(name string, in, out triton.TensorMetadata, answer []float32) tritontest.Model {
	return tritontest.Model{
		Name: name, Inputs: []triton.TensorMetadata{in}, Outputs: []triton.TensorMetadata{out}, MaxBatch: 8,
		Infer: func(context.Context, []triton.Tensor) ([]triton.Tensor, error) {
			t, err := triton.NewFloat32(out.Name, answer, append([]int64{1}, out.Shape[1:]...)...)
			return []triton.Tensor{t}, err
		},
	}
}

const (
	classes  = 1000
	espresso = 967 // of ImageNet's
)

// logits have one clear winner.
func logits() []float32 {
	all := make([]float32, classes)
	for i := range all {
		all[i] = float32(i%7) / 7
	}
	all[espresso] = 12
	return all
}

func tensor() []float32 {
	all := make([]float32, 3*224*224)
	for i := range all {
		all[i] = float32(i%5) - 2
	}
	return all
}

func labels() []string {
	all := make([]string, classes)
	for i := range all {
		all[i] = fmt.Sprintf("class %d", i)
	}
	all[espresso] = "espresso"
	return all
}

func encoded(values []float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func write(spec container.Spec, inside string, data []byte) error {
	name, writable, err := containertest.HostPath(spec, inside)
	if err == nil && !writable {
		err = fmt.Errorf("%s is read-only", inside)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(name), data, 0o600)
}

// argument is the value after a flag.
func argument(spec container.Spec, flag string) string {
	_, rest, _ := strings.Cut(strings.Join(spec.Command, "\x00")+"\x00", flag+"\x00")
	value, _, _ := strings.Cut(rest, "\x00")
	return value
}
