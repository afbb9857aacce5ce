package tritontest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
	"github.com/dalirun/dalirun/triton/tritontest"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func state(t *testing.T, c *triton.Client, model string) triton.IndexEntry {
	t.Helper()
	index, err := c.RepositoryIndex(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range index {
		if e.Name == model {
			return e
		}
	}
	t.Fatalf("%s is not in the index %+v", model, index)
	return triton.IndexEntry{}
}

func TestUnloadTakesTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := tritontest.New(t, tritontest.Model{Name: "m", Unload: func(ctx context.Context) {
		select {
		case <-release:
		case <-ctx.Done():
		}
	}})
	server.MustLoad("m")
	c := server.Client(t)
	if err := c.Unload(within(t), "m"); err != nil {
		t.Fatal(err)
	}
	if got := state(t, c, "m").State; got != triton.StateUnloading {
		t.Errorf("state %s; want UNLOADING", got)
	}
	if ready, err := c.Ready(within(t)); err != nil || ready {
		t.Errorf("Ready = %t, %v during an unload; want false", ready, err)
	}
	close(release)
	ctx, poll := within(t), time.NewTicker(5*time.Millisecond)
	defer poll.Stop()
	for state(t, c, "m").State != triton.StateUnavailable {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatal("the unload did not end")
		}
	}
}

// Requests for one model at once share one load, as in Triton.
func TestConcurrentLoads(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	loads := 0
	server := tritontest.New(t,
		tritontest.Model{Name: "base", Load: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			loads++
			return nil
		}},
		tritontest.Model{Name: "a", Requires: []string{"base"}},
		tritontest.Model{Name: "b", Requires: []string{"base"}},
	)
	c, ctx := server.Client(t), within(t)
	var wg sync.WaitGroup
	for range 4 {
		for _, name := range []string{"a", "b", "base"} {
			wg.Go(func() {
				if err := c.Load(ctx, name); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if loads != 1 {
		t.Errorf("base was loaded %d times; want once", loads)
	}
}

// What the client would not send is refused as Triton refuses it.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	labels := []string{"a", "b"}
	server := tritontest.New(t, tritontest.Classifier("m", labels, func([]byte) ([]float32, error) {
		return []float32{1, 2}, nil
	}), tritontest.Model{Name: "silent"}, tritontest.Model{Name: "wrong", Outputs: []triton.TensorMetadata{
		{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{1}},
	}, Infer: func(context.Context, []triton.Tensor) ([]triton.Tensor, error) {
		return []triton.Tensor{{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{1}}}, nil
	}}, tritontest.Model{Name: "busy", Infer: func(context.Context, []triton.Tensor) ([]triton.Tensor, error) {
		return nil, status.Error(codes.Unavailable, "Exceeds maximum queue size")
	}})
	server.MustLoad("m", "silent", "wrong", "busy")
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	rpc := pb.NewGRPCInferenceServiceClient(conn)
	request := func(change func(*pb.ModelInferRequest)) *pb.ModelInferRequest {
		r := &pb.ModelInferRequest{
			ModelName:        "m",
			Inputs:           []*pb.ModelInferRequest_InferInputTensor{{Name: "INPUT", Datatype: "UINT8", Shape: []int64{1, 1}}},
			RawInputContents: [][]byte{{0}},
		}
		change(r)
		return r
	}
	other := func(name string) func(*pb.ModelInferRequest) {
		return func(r *pb.ModelInferRequest) { r.ModelName, r.Inputs, r.RawInputContents = name, nil, nil }
	}
	for name, test := range map[string]struct {
		request *pb.ModelInferRequest
		code    codes.Code
		want    string
	}{
		"version 2":    {request(func(r *pb.ModelInferRequest) { r.ModelVersion = "2" }), codes.NotFound, "version 2 is not found"},
		"version x":    {request(func(r *pb.ModelInferRequest) { r.ModelVersion = "x" }), codes.InvalidArgument, "specified version string 'x'"},
		"no raw":       {request(func(r *pb.ModelInferRequest) { r.RawInputContents = nil }), codes.InvalidArgument, "raw inputs"},
		"no inputs":    {request(func(r *pb.ModelInferRequest) { r.Inputs, r.RawInputContents = nil, nil }), codes.InvalidArgument, "[request id: <id_unknown>] expected 1 inputs but got 0"},
		"datatype":     {request(func(r *pb.ModelInferRequest) { r.Inputs[0].Datatype = "FP32" }), codes.InvalidArgument, "data-type is 'FP32', but model 'm' expects 'UINT8'"},
		"size":         {request(func(r *pb.ModelInferRequest) { r.RawInputContents[0] = nil }), codes.InvalidArgument, "byte size mismatch"},
		"output":       {request(wants("NOPE", nil)), codes.InvalidArgument, "unexpected inference output 'NOPE'"},
		"zero classes": {request(wants("OUTPUT", new(int64))), codes.InvalidArgument, "'classification' parameter"},
		"no function":  {request(other("silent")), codes.Unimplemented, "no Infer function"},
		"wrong output": {request(other("wrong")), codes.Internal, "0 bytes of data"},
		"own status":   {request(other("busy")), codes.Unavailable, "Exceeds maximum queue size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rpc.ModelInfer(within(t), test.request)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want %s with %q", err, test.code, test.want)
			}
		})
	}
}

func wants(output string, classes *int64) func(*pb.ModelInferRequest) {
	return func(r *pb.ModelInferRequest) {
		o := &pb.ModelInferRequest_InferRequestedOutputTensor{Name: output}
		if classes != nil {
			o.Parameters = map[string]*pb.InferParameter{
				"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: *classes}},
			}
		}
		r.Outputs = append(r.Outputs, o)
	}
}

func TestClassesOfNaN(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("m", []string{"a", "b"}, func([]byte) ([]float32, error) {
		zero := float32(0)
		return []float32{zero / zero, 1 / zero}, nil
	}))
	server.MustLoad("m")
	got, err := server.Client(t).Classify(within(t), "m", []byte("x"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Label != "b" || got[0].Value <= 1e38 || got[1].Value == got[1].Value {
		t.Errorf("classes %+v; want b: +Inf, a: NaN", got)
	}
}

func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t)
	c := server.Client(t)
	if _, err := c.Live(within(t)); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := c.Live(within(t)); !errors.Is(err, triton.ErrUnavailable) {
		t.Errorf("error %v; want ErrUnavailable", err)
	}
}

// The answers are those of a tritonserver 2.51 whose stub was killed.
func TestKillStub(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, pictureModels()...)
	server.MustLoad("ensemble")
	c := server.Client(t)
	if _, err := c.Classify(within(t), "ensemble", []byte("picture"), 1); err != nil {
		t.Fatal(err)
	}
	server.KillStub("below")
	for _, model := range []string{"below", "ensemble"} {
		if ready, err := c.ModelReady(within(t), model); err != nil || !ready {
			t.Errorf("%s is not ready: %v", model, err)
		}
	}
	if ready, err := c.Ready(within(t)); err != nil || !ready {
		t.Errorf("the server is not ready: %v", err)
	}
	_, err := c.Classify(within(t), "ensemble", []byte("picture"), 1)
	want := "classify with model ensemble: in ensemble 'ensemble', Stub process 'below_0_0' is not healthy."
	if failed, ok := errors.AsType[*triton.Error](err); !ok || failed.Code != codes.Internal || failed.Error() != want {
		t.Errorf("classify: %v; want %s", err, want)
	}
	statistics, err := c.Statistics(within(t), "ensemble")
	if err != nil || statistics[0].Success.Count != 1 || statistics[0].Fail.Count == 0 {
		t.Errorf("statistics: %+v, %v", statistics, err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, pictureModels()...)
	server.MustLoad("ensemble")
	c := server.Client(t)
	server.KillStub("below")
	server.Restart()
	if ready, err := c.Ready(within(t)); err != nil || !ready {
		t.Errorf("the server is not ready: %v", err)
	}
	if got := state(t, c, "ensemble"); got != (triton.IndexEntry{Name: "ensemble"}) {
		t.Errorf("index: %+v; want a model that was never asked for", got)
	}
	if _, err := c.Classify(within(t), "ensemble", []byte("picture"), 1); !errors.Is(err, triton.ErrNotFound) {
		t.Errorf("classify: %v", err)
	}
	server.MustLoad("ensemble")
	if _, err := c.Classify(within(t), "ensemble", []byte("picture"), 1); err != nil {
		t.Errorf("classify after it was loaded again: %v", err)
	}
}

// pictureModels are an ensemble and the model that it uses.
func pictureModels() []tritontest.Model {
	ensemble := tritontest.Classifier("ensemble", []string{"a", "b"}, func([]byte) ([]float32, error) { return []float32{1, 2}, nil })
	ensemble.Requires = []string{"below"}
	return []tritontest.Model{ensemble, {Name: "below"}}
}
