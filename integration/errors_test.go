//go:build integration

package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dimage "github.com/docker/docker/api/types/image"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"

	"github.com/dalirun/dalirun/triton"
)

// sayingModel is a Python model that fails as its input says.
const sayingModel = `import os
import time

import numpy
import triton_python_backend_utils as pb_utils



class TritonPythonModel:
    def execute(self, requests):
        codes = {  # not yet there when the module is imported
            "default": (),
            "invalid": (pb_utils.TritonError.INVALID_ARG,),
            "unavailable": (pb_utils.TritonError.UNAVAILABLE,),
            "missing": (pb_utils.TritonError.NOT_FOUND,),
            "cancelled": (pb_utils.TritonError.CANCELLED,),
        }
        answers = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy().tobytes().decode()
            if text == "raise":
                raise RuntimeError("said so")
            if text == "die":
                os._exit(1)
            if text == "sleep":
                time.sleep(2)
            if text in codes:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("said so", *codes[text])))
            else:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", numpy.zeros((1, 4), numpy.float32))]))
        return answers
`

// failingModels are the files of models by their names: one with each way to fail.
func failingModels() map[string][]testcontainers.ContainerFile {
	file := func(name, text string) testcontainers.ContainerFile {
		return testcontainers.ContainerFile{Reader: strings.NewReader(text), ContainerFilePath: "/models/" + name, FileMode: 0o644}
	}
	config := func(name, settings string) testcontainers.ContainerFile {
		return file(name+"/config.pbtxt", fmt.Sprintf(`name: %q
backend: "python"
max_batch_size: 8
input [{name: "INPUT" data_type: TYPE_UINT8 dims: [-1]}]
output [{name: "OUTPUT" data_type: TYPE_FP32 dims: [4]}]
instance_group [{kind: KIND_CPU count: 1}]
%s`, name, settings))
	}
	models := map[string][]testcontainers.ContainerFile{
		"broken":     {config("broken", ""), file("broken/1/model.py", "raise RuntimeError('no weights here')\n")},
		"unreadable": {file("unreadable/config.pbtxt", "this is no configuration {"), file("unreadable/1/model.py", sayingModel)},
		"queue": {
			config("queue", "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"), file("queue/1/model.py", sayingModel),
		},
	}
	for _, name := range []string{"saying", "mortal", "fresh", "unloaded"} {
		models[name] = []testcontainers.ContainerFile{config(name, ""), file(name+"/1/model.py", sayingModel)}
	}
	return models
}

// tritonserver starts the server of the local image with files, and returns a client once it is live.
func (c cpu) tritonserver(t *testing.T, files []testcontainers.ContainerFile, args ...string) (*triton.Client, testcontainers.Container) {
	t.Helper()
	images, err := c.engine.client(t).ImageList(t.Context(), dimage.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", "dalirun/server"))})
	if err != nil || len(images) == 0 {
		t.Fatalf("the local server images: %d, %v", len(images), err)
	}
	newest := slices.MaxFunc(images, func(a, b dimage.Summary) int { return cmp.Compare(a.Created, b.Created) })
	const shm = 256 << 20
	ctr, err := testcontainers.Run(t.Context(), newest.RepoTags[0],
		testcontainers.WithCmd(append([]string{"tritonserver", "--model-repository=/models", "--disable-auto-complete-config"}, args...)...),
		testcontainers.WithFiles(files...), testcontainers.WithExposedPorts("8001/tcp"),
		testcontainers.WithHostConfigModifier(func(h *dcontainer.HostConfig) { h.ShmSize = shm }),
		testcontainers.WithLogger(tclog.TestLogger(t)),
	)
	testcontainers.CleanupContainer(t, ctr, testcontainers.StopTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	port, err := ctr.MappedPort(t.Context(), "8001/tcp")
	if err != nil {
		t.Fatal(err)
	}
	// Not the host that testcontainers names: where the tests run in a container, it takes the gateway for the engine's host.
	client, err := triton.Dial("127.0.0.1:" + port.Port())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.WaitLive(ctx); err != nil {
		t.Fatalf("%v:\n%s", err, logOf(t, ctr))
	}
	return client, ctr
}

func logOf(t *testing.T, ctr testcontainers.Container) []byte {
	t.Helper()
	logs, err := ctr.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// isOnly wants err to be of a class of package triton and of no other; nil is none.
func isOnly(t *testing.T, what string, err, class error) {
	t.Helper()
	if _, ok := errors.AsType[*triton.Error](err); !ok {
		t.Errorf("%s: error %v; want a *triton.Error", what, err)
	}
	for _, c := range []error{triton.ErrUnavailable, triton.ErrNotFound, triton.ErrInvalid, context.DeadlineExceeded, context.Canceled} {
		if want := class != nil && errors.Is(class, c); errors.Is(err, c) != want {
			t.Errorf("%s: errors.Is(%v, %v) = %t", what, err, c, !want)
		}
	}
}

// TestErrorClasses holds the documentation of package triton's classes against a real server.
func TestErrorClasses(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	client, ctr := c.tritonserver(t, slices.Concat(slices.Collect(maps.Values(failingModels()))...), "--model-control-mode=explicit", "--load-model=saying", "--load-model=mortal", "--load-model=queue", "--load-model=unloaded")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	classesOfModels(ctx, t, client)
	classesOfRequests(ctx, t, client)

	// A Python model that died is no reason to try again, and Triton calls it ready.
	for _, text := range []string{"die", "fine"} {
		isOnly(t, text, say(ctx, client, "mortal", text), nil)
	}
	// One request runs and one waits: the others find the queue full.
	answers := make(chan error)
	const clients = 6
	for range clients {
		go func() { answers <- say(ctx, client, "queue", "sleep") }()
	}
	full := 0
	for range clients {
		if err := <-answers; err != nil {
			full++
			isOnly(t, "a full queue", err, triton.ErrUnavailable)
		}
	}
	if full == 0 {
		t.Error("the queue was never full")
	}

	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	isOnly(t, "deadline", say(short, client, "saying", "sleep"), context.DeadlineExceeded)
	gone := make(chan error)
	go func() { gone <- say(ctx, client, "saying", "sleep") }()
	if err := ctr.Stop(ctx, new(time.Duration)); err != nil {
		t.Fatal(err)
	}
	isOnly(t, "a server that goes", <-gone, triton.ErrUnavailable)
	isOnly(t, "a server that is gone", say(ctx, client, "saying", "fine"), triton.ErrUnavailable)
}

// say asks a model with a picture of that text.
func say(ctx context.Context, client *triton.Client, model, text string) error {
	input, err := triton.NewUint8("INPUT", []byte(text), 1, int64(len(text)))
	if err != nil {
		return err
	}
	_, err = client.Infer(ctx, triton.InferRequest{Model: model, Inputs: []triton.Tensor{input}})
	return err
}

func classesOfModels(ctx context.Context, t *testing.T, client *triton.Client) {
	t.Helper()
	if err := client.Unload(ctx, "unloaded"); err != nil {
		t.Fatal(err)
	}
	isOnly(t, "load broken", client.Load(ctx, "broken"), triton.ErrInvalid)
	isOnly(t, "load unreadable", client.Load(ctx, "unreadable"), triton.ErrInvalid)
	isOnly(t, "load nope", client.Load(ctx, "nope"), triton.ErrNotFound)
	for _, model := range []string{"nope", "fresh", "unloaded", "broken"} {
		_, err := client.ModelMetadata(ctx, model)
		isOnly(t, "metadata of "+model, err, triton.ErrNotFound)
		_, err = client.ModelConfig(ctx, model)
		isOnly(t, "configuration of "+model, err, triton.ErrNotFound)
		_, err = client.Statistics(ctx, model)
		isOnly(t, "statistics of "+model, err, triton.ErrNotFound)
		isOnly(t, "infer with "+model, say(ctx, client, model, "x"), triton.ErrNotFound)
		if ready, err := client.ModelReady(ctx, model); ready || err != nil {
			t.Errorf("%s is ready: %t, %v", model, ready, err)
		}
	}
	if err := client.Unload(ctx, "nope"); err != nil {
		t.Errorf("unload nope: %v", err)
	}
}

func classesOfRequests(ctx context.Context, t *testing.T, client *triton.Client) {
	t.Helper()
	for text, class := range map[string]error{
		"default": nil, "raise": nil, "cancelled": nil, "invalid": triton.ErrInvalid, "unavailable": triton.ErrUnavailable, "missing": triton.ErrNotFound,
	} {
		err := say(ctx, client, "saying", text)
		isOnly(t, text, err, class)
		if err == nil || !strings.Contains(err.Error(), "said so") {
			t.Errorf("%s: error %v; want the model's own words", text, err)
		}
	}
	bytes := func(n int64, shape ...int64) triton.Tensor {
		return triton.Tensor{Name: "INPUT", Datatype: triton.Uint8, Shape: shape, Data: make([]byte, n)}
	}
	good := triton.InferRequest{Model: "saying", Inputs: []triton.Tensor{bytes(4, 1, 4)}}
	if _, err := client.Infer(ctx, good); err != nil {
		t.Fatalf("a good request: %v", err)
	}
	for what, test := range map[string]struct {
		change func(*triton.InferRequest)
		class  error
	}{
		"name":      {func(r *triton.InferRequest) { r.Inputs[0].Name = "IN" }, triton.ErrInvalid},
		"type":      {func(r *triton.InferRequest) { r.Inputs[0].Datatype, r.Inputs[0].Shape = triton.FP32, []int64{1, 1} }, triton.ErrInvalid},
		"shape":     {func(r *triton.InferRequest) { r.Inputs[0] = bytes(4, 4) }, triton.ErrInvalid},
		"batch":     {func(r *triton.InferRequest) { r.Inputs[0] = bytes(9, 9, 1) }, triton.ErrInvalid},
		"no input":  {func(r *triton.InferRequest) { r.Inputs = nil }, triton.ErrInvalid},
		"output":    {func(r *triton.InferRequest) { r.Outputs = []triton.RequestedOutput{{Name: "NO"}} }, triton.ErrInvalid},
		"version 2": {func(r *triton.InferRequest) { r.Version = "2" }, triton.ErrNotFound},
		"version x": {func(r *triton.InferRequest) { r.Version = "x" }, triton.ErrInvalid},
	} {
		request := triton.InferRequest{Model: "saying", Inputs: []triton.Tensor{bytes(4, 1, 4)}}
		test.change(&request)
		_, err := client.Infer(ctx, request)
		isOnly(t, what, err, test.class)
	}
}

// TestErrorClassesOfModelControl is about a server that loads its models itself.
func TestErrorClassesOfModelControl(t *testing.T) {
	t.Parallel()
	client, _ := cpuLane(t).tritonserver(t, failingModels()["saying"], "--model-control-mode=none")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	isOnly(t, "load", client.Load(ctx, "saying"), triton.ErrInvalid)
	isOnly(t, "unload", client.Unload(ctx, "saying"), triton.ErrInvalid)
}
