package triton_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// example stands in for a test, so that an example has a server to talk to.
type example struct {
	testing.TB

	ctx      context.Context
	cancel   context.CancelFunc
	cleanups []func()
}

func newExample() *example {
	ctx, cancel := context.WithCancel(context.Background())
	return &example{ctx: ctx, cancel: cancel}
}

func (*example) Helper()                        {}
func (e *example) Context() context.Context     { return e.ctx }
func (e *example) Cleanup(f func())             { e.cleanups = append(e.cleanups, f) }
func (*example) Errorf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
func (*example) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
func (e *example) end() {
	e.cancel()
	for _, cleanup := range slices.Backward(e.cleanups) {
		cleanup()
	}
}

func ExampleClient() {
	t := newExample()
	defer t.end()
	addr := tritontest.New(t, tritontest.Classifier("ensemble_dali_resnet50",
		[]string{"tench", "espresso", "cup"},
		func([]byte) ([]float32, error) { return []float32{-2, 9.5, 4.25}, nil },
	)).Addr() // of a real server: "localhost:8001"

	client, err := triton.Dial(addr)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if err := client.Close(); err != nil {
			fmt.Println(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	if err := client.Load(ctx, "ensemble_dali_resnet50"); err != nil {
		fmt.Println(err)
		return
	}
	picture := []byte("\xff\xd8\xff\xe0 and the rest of a JPEG")
	classes, err := client.Classify(ctx, "ensemble_dali_resnet50", picture, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range classes {
		fmt.Println(c.Index, c.Label, c.Value)
	}
	// Output:
	// 1 espresso 9.5
	// 2 cup 4.25
}

// A batch of two pictures' tensors, sent to a model that takes tensors.
func ExampleClient_Infer() {
	t := newExample()
	defer t.end()
	server := tritontest.New(t, tritontest.Model{
		Name:     "double",
		Inputs:   []triton.TensorMetadata{{Name: "INPUT", Datatype: triton.FP32, Shape: []int64{-1, 3}}},
		Outputs:  []triton.TensorMetadata{{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{-1, 3}}},
		MaxBatch: 8,
		Infer: func(_ context.Context, inputs []triton.Tensor) ([]triton.Tensor, error) {
			values, err := inputs[0].Float32s()
			if err != nil {
				return nil, err
			}
			for i := range values {
				values[i] *= 2
			}
			output, err := triton.NewFloat32("OUTPUT", values, inputs[0].Shape...)
			return []triton.Tensor{output}, err
		},
	})
	server.MustLoad("double")

	client, err := triton.Dial(server.Addr()) // of a real server: "localhost:8001"
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.WaitLive(ctx); err != nil {
		fmt.Println(err)
		return
	}

	input, err := triton.NewFloat32("INPUT", []float32{1, 2, 3, 0.5, 0.25, 0}, 2, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	response, err := client.Infer(ctx, triton.InferRequest{
		Model:   "double",
		Inputs:  []triton.Tensor{input},
		Outputs: []triton.RequestedOutput{{Name: "OUTPUT"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	output, err := response.Output("OUTPUT")
	if err != nil {
		fmt.Println(err)
		return
	}
	values, err := output.Float32s()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(response.Model, response.Version, output.Shape, values)
	// Output:
	// double 1 [2 3] [2 4 6 1 0.5 0]
}

func ExampleTopK() {
	logits := []float32{1, 4, 2}
	labels := []string{"tench", "espresso", "cup"}
	for _, c := range triton.TopK(triton.Softmax(logits), 2, labels) {
		fmt.Printf("%s %.2f\n", c.Label, c.Value)
	}
	// Output:
	// espresso 0.84
	// cup 0.11
}
