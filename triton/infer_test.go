package triton_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
	"github.com/dalirun/dalirun/triton/tritontest"
)

func TestInfer(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("good", labels, scores))
	server.MustLoad("good")
	c := server.Client(t)
	input, err := triton.NewUint8("INPUT", []byte{1, 2, 3, 4, 5, 6}, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Infer(within(t, deadline), triton.InferRequest{
		Model: "good", Version: "1", ID: "x1", Inputs: []triton.Tensor{input},
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Model != "good" || resp.Version != "1" || resp.ID != "x1" {
		t.Errorf("the answer is for %q version %q, ID %q", resp.Model, resp.Version, resp.ID)
	}
	output, err := resp.Output("OUTPUT")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{2, 4}, output.Shape); diff != "" {
		t.Errorf("shape (-want +got):\n%s", diff)
	}
	values, err := output.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{0.5, -1.25, 3.75, 2e-8, 0.5, -1.25, 3.75, 2e-8}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if _, err := resp.Output("output"); err == nil {
		t.Error("an output that was not answered was found")
	}
}

func TestInferClasses(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("good", labels, scores))
	server.MustLoad("good")
	input, err := triton.NewUint8("INPUT", []byte{1, 2}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := server.Client(t), within(t, deadline)
	request := triton.InferRequest{
		Model: "good", Inputs: []triton.Tensor{input},
		Outputs: []triton.RequestedOutput{{Name: "OUTPUT", Classes: 2}},
	}
	resp, err := c.Infer(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	want, err := triton.NewBytes("OUTPUT",
		[][]byte{[]byte("3.750000:2"), []byte("0.500000:0:tench"), []byte("3.750000:2"), []byte("0.500000:0:tench")}, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]triton.Tensor{want}, resp.Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	request.Outputs[0].Classes = -1
	if _, err := c.Infer(ctx, request); !errors.Is(err, triton.ErrInvalid) {
		t.Errorf("error %v for -1 classes; want ErrInvalid", err)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	infer := tritontest.Classifier("", labels, scores).Infer
	flat := tritontest.Model{
		Name:    "flat",
		Inputs:  []triton.TensorMetadata{{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{-1}}},
		Outputs: []triton.TensorMetadata{{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{4}}},
		Labels:  labels,
		Infer: func(ctx context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
			in[0].Shape = []int64{1, in[0].Shape[0]}
			out, err := infer(ctx, in)
			if err == nil {
				out[0].Shape = []int64{4}
			}
			return out, err
		},
	}
	server := tritontest.New(t, flat, tritontest.Classifier("batched", labels, scores))
	server.MustLoad("flat", "batched")
	c := server.Client(t)
	for _, model := range []string{"flat", "batched"} {
		got, err := c.Classify(within(t, deadline), model, []byte("picture"), 99)
		if err != nil {
			t.Errorf("%s: %v", model, err)
			continue
		}
		want := []triton.Class{
			{Index: 2, Value: 3.75},
			{Index: 0, Value: 0.5, Label: "tench"},
			{Index: 3, Value: 0, Label: "cup"}, // 2e-8 in six digits
			{Index: 1, Value: -1.25, Label: "espresso: dark"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", model, diff)
		}
	}
}

func TestClassifyRefuses(t *testing.T) {
	t.Parallel()
	picture := triton.TensorMetadata{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{-1, -1}}
	score := triton.TensorMetadata{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{-1, 4}}
	pixels := triton.TensorMetadata{Name: "input", Datatype: triton.FP32, Shape: []int64{-1, 3, 224, 224}}
	image := triton.TensorMetadata{Name: "image", Datatype: triton.Uint8, Shape: []int64{-1, 224, 224, 3}}
	fixed := triton.TensorMetadata{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{-1, 100}}
	type list = []triton.TensorMetadata
	for name, test := range map[string]struct {
		inputs, outputs list
		picture         string
		k               int
		want            string
	}{
		"empty picture": {list{picture}, list{score}, "", 1, "the picture is empty"},
		"no classes":    {list{picture}, list{score}, "x", 0, "0 classes are asked for"},
		"pixels":        {list{pixels}, list{score}, "x", 1, "0 inputs of type UINT8"},
		"image":         {list{image}, list{score}, "x", 1, "not one row of bytes"},
		"fixed":         {list{fixed}, list{score}, "x", 1, "does not fit"},
		"two inputs":    {list{picture, pixels}, list{score}, "x", 1, "2 inputs"},
		"a tensor":      {list{picture}, list{pixels}, "x", 1, "output input has shape [-1 3 224 224], not one vector of classes"},
		"two outputs":   {list{picture}, list{score, score}, "x", 1, "2 outputs of type FP32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := tritontest.New(t, tritontest.Model{Name: "m", Inputs: test.inputs, Outputs: test.outputs, MaxBatch: 8})
			server.MustLoad("m")
			_, err := server.Client(t).Classify(within(t, deadline), "m", []byte(test.picture), test.k)
			if !errors.Is(err, triton.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want ErrInvalid with %q", err, test.want)
			}
			ofRequest := slices.Contains([]string{"empty picture", "no classes", "fixed"}, name)
			if errors.Is(err, triton.ErrNoClassifier) == ofRequest {
				t.Errorf("error %v is an ErrNoClassifier: %t", err, ofRequest)
			}
			for _, call := range server.Calls() {
				if strings.HasPrefix(call, "ModelInfer") {
					t.Error("the server was asked")
				}
			}
		})
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("good", labels, scores), tritontest.Model{Name: "idle"})
	server.MustLoad("good", "idle")
	c, ctx := server.Client(t), within(t, deadline)
	before := time.Now()
	for batch := range int64(3) {
		input, err := triton.NewUint8("INPUT", make([]byte, batch+1), batch+1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Infer(ctx, triton.InferRequest{Model: "good", Inputs: []triton.Tensor{input}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Classify(ctx, "good", []byte("bad"), 1); err == nil {
		t.Fatal("the bad picture was classified")
	}
	all, err := c.Statistics(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Model != "good" || all[1].Model != "idle" {
		t.Fatalf("statistics of all: %+v", all)
	}
	if !all[1].LastInference.IsZero() || all[1].Inferences != 0 {
		t.Errorf("the idle model's: %+v", all[1])
	}
	one, err := c.Statistics(ctx, "good")
	if err != nil {
		t.Fatal(err)
	}
	got := one[0]
	if got.Inferences != 6 || got.Executions != 3 || got.Success.Count != 3 || got.Fail.Count != 1 {
		t.Errorf("counts: %+v", got)
	}
	if got.LastInference.Before(before.Truncate(time.Millisecond)) || got.LastInference.After(time.Now()) {
		t.Errorf("the last inference was at %v, not since %v", got.LastInference, before)
	}
	if got.Success.Total <= 0 || got.Success.Mean() > got.Success.Total {
		t.Errorf("success took %v, %v on average", got.Success.Total, got.Success.Mean())
	}
	var sizes []uint64
	for _, b := range got.Batches {
		sizes = append(sizes, b.Size)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3}, sizes); diff != "" {
		t.Errorf("batch sizes (-want +got):\n%s", diff)
	}
	if (triton.Stat{Total: time.Second}).Mean() != 0 || (triton.Stat{Count: math.MaxUint64, Total: time.Second}).Mean() != 0 {
		t.Error("the mean of no event, or of more than can be, is not 0")
	}
}

// Every kind of field that a config.pbtxt of ours or of a user has is known:
// the text form refuses others.
func TestConfigPbtxt(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/config/*.pbtxt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var config pb.ModelConfig
			if err := prototext.Unmarshal(text, &config); err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimSuffix(filepath.Base(path), ".pbtxt"); config.GetName() != want {
				t.Errorf("name %q; want %q", config.GetName(), want)
			}
			if len(config.GetInput()) == 0 || len(config.GetOutput()) == 0 {
				t.Error("inputs or outputs were not read")
			}
		})
	}
}

// The numbers are the protocol's; with others a server would read garbage.
func TestWireFormat(t *testing.T) {
	t.Parallel()
	numbers := map[string]map[string]protoreflect.FieldNumber{
		"ModelInferRequest":  {"model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "inputs": 5, "outputs": 6, "raw_input_contents": 7},
		"ModelInferResponse": {"model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "outputs": 5, "raw_output_contents": 6},
		"ModelStatistics":    {"inference_count": 4, "execution_count": 5, "inference_stats": 6, "batch_stats": 7, "memory_usage": 8, "response_stats": 9},
		"ModelConfig": {
			"name": 1, "platform": 2, "version_policy": 3, "max_batch_size": 4, "input": 5, "output": 6, "instance_group": 7,
			"default_model_filename": 8, "dynamic_batching": 11, "optimization": 12, "parameters": 14, "ensemble_scheduling": 15,
			"model_warmup": 16, "backend": 17, "model_transaction_policy": 19, "batch_input": 20, "response_cache": 24, "runtime": 25,
		},
	}
	for name, fields := range numbers {
		message := pb.File_grpc_service_proto.Messages().ByName(protoreflect.Name(name))
		if message == nil {
			message = pb.File_model_config_proto.Messages().ByName(protoreflect.Name(name))
		}
		for field, want := range fields {
			got := message.Fields().ByName(protoreflect.Name(field))
			if got == nil || got.Number() != want {
				t.Errorf("%s.%s is %v; want field %d", name, field, got, want)
			}
		}
	}
	services := pb.File_grpc_service_proto.Services()
	if got := services.Get(0).FullName(); got != "inference.GRPCInferenceService" {
		t.Errorf("the service is %s", got)
	}
}
