package triton_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
	"github.com/dalirun/dalirun/triton/tritontest"
)

func TestModelLifecycle(t *testing.T) {
	t.Parallel()
	ensemble := tritontest.Classifier("ensemble", labels, scores)
	ensemble.Requires = []string{"dali"}
	server := tritontest.New(t, ensemble, tritontest.Model{Name: "dali"})
	c, ctx := server.Client(t), within(t, deadline)

	index := func(when string, want ...triton.IndexEntry) {
		t.Helper()
		got, err := c.RepositoryIndex(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("index %s (-want +got):\n%s", when, diff)
		}
	}
	ready := func(when string, want bool) {
		t.Helper()
		got, err := c.ModelReady(ctx, "ensemble")
		if err != nil || got != want {
			t.Errorf("ModelReady %s = %t, %v; want %t", when, got, err, want)
		}
	}
	index("at first", triton.IndexEntry{Name: "dali"}, triton.IndexEntry{Name: "ensemble"})
	ready("at first", false)
	if err := c.Load(ctx, "ensemble"); err != nil {
		t.Fatal(err)
	}
	index("after the load",
		triton.IndexEntry{Name: "dali", Version: "1", State: triton.StateReady},
		triton.IndexEntry{Name: "ensemble", Version: "1", State: triton.StateReady})
	ready("after the load", true)

	meta, err := c.ModelMetadata(ctx, "ensemble")
	if err != nil {
		t.Fatal(err)
	}
	wantMeta := triton.ModelMetadata{
		Name: "ensemble", Versions: []string{"1"}, Platform: "ensemble",
		Inputs:  []triton.TensorMetadata{{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{-1, -1}}},
		Outputs: []triton.TensorMetadata{{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{-1, 4}}},
	}
	if diff := cmp.Diff(wantMeta, meta); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	config, err := c.ModelConfig(ctx, "ensemble")
	if err != nil {
		t.Fatal(err)
	}
	if config.GetMaxBatchSize() != 8 || config.GetOutput()[0].GetDataType() != pb.DataType_TYPE_FP32 ||
		!cmp.Equal(config.GetOutput()[0].GetDims(), []int64{4}) {
		t.Errorf("configuration: %v", config)
	}

	if err := c.Unload(ctx, "dali"); err != nil {
		t.Fatal(err)
	}
	index("after the unload",
		triton.IndexEntry{Name: "dali", Version: "1", State: triton.StateUnavailable, Reason: "unloaded"},
		triton.IndexEntry{Name: "ensemble", Version: "1", State: triton.StateUnavailable, Reason: "unloaded"})
	ready("after the unload", false)
	if ok, err := c.Ready(ctx); err != nil || !ok {
		t.Errorf("Ready = %t, %v; what was unloaded on purpose does not count", ok, err)
	}
	if err := c.Unload(ctx, "no such model"); err != nil {
		t.Errorf("Unload of an unknown model: %v; Triton takes it", err)
	}
}

func TestFailedLoadIsNotReady(t *testing.T) {
	t.Parallel()
	fail := true
	server := tritontest.New(t, tritontest.Model{Name: "m", Load: func(context.Context) error {
		if fail {
			return errors.New("no weights")
		}
		return nil
	}})
	c, ctx := server.Client(t), within(t, deadline)
	if err := c.Load(ctx, "m"); err == nil {
		t.Fatal("the load succeeded")
	}
	if ready, err := c.Ready(ctx); err != nil || ready {
		t.Errorf("Ready = %t, %v after a failed load; want false", ready, err)
	}
	index, err := c.RepositoryIndex(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []triton.IndexEntry{{Name: "m", Version: "1", State: triton.StateUnavailable, Reason: "Internal: no weights"}}
	if diff := cmp.Diff(want, index); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	fail = false
	if err := c.Load(ctx, "m"); err != nil {
		t.Fatal(err)
	}
	if ready, err := c.Ready(ctx); err != nil || !ready {
		t.Errorf("Ready = %t, %v after a good load; want true", ready, err)
	}
}

// A load that hangs is seen from outside: the call ends with its deadline, the
// index names the model, and the server goes on loading.
func TestHangingLoad(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := tritontest.New(t, tritontest.Model{Name: "slow", Load: func(ctx context.Context) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	c, ctx := server.Client(t), within(t, deadline)
	err := c.Load(within(t, 100*time.Millisecond), "slow")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v; want the deadline", err)
	}
	if want := "load model slow: " + server.Addr() + " did not answer before the deadline"; err.Error() != want {
		t.Errorf("error %q; want %q", err, want)
	}
	index, err := c.RepositoryIndex(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]triton.IndexEntry{{Name: "slow", Version: "1", State: triton.StateLoading}}, index); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	if ready, err := c.Ready(ctx); err != nil || ready {
		t.Errorf("Ready = %t, %v during a load; want false", ready, err)
	}
	close(release)
	if err := c.Load(ctx, "slow"); err != nil { // joins the load under way
		t.Fatal(err)
	}
}

// TestMetadataAskedOnce: Classify asks for a model's metadata once, until they can have changed.
func TestMetadataAskedOnce(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("a", labels, scores), tritontest.Model{Name: "other"})
	server.MustLoad("a")
	c, ctx := server.Client(t), within(t, deadline)
	do := func(what string, do func(context.Context, string) error) {
		t.Helper()
		if err := do(ctx, what); err != nil {
			t.Fatal(err)
		}
	}
	classify := func(ctx context.Context, model string) error {
		_, err := c.Classify(ctx, model, []byte("picture"), 1)
		return err
	}
	do("a", classify)
	do("a", classify)
	do("other", c.Load)
	do("a", classify)
	do("a", classify)
	do("other", c.Unload)
	do("a", classify)
	if _, err := c.Classify(ctx, "a", []byte("bad"), 1); err == nil {
		t.Error("a bad picture was classified")
	}
	do("a", classify)
	do("a", classify)
	want := []string{
		"ModelMetadata a", "ModelInfer a", "ModelInfer a",
		"RepositoryModelLoad other", "ModelMetadata a", "ModelInfer a", "ModelInfer a",
		"RepositoryModelUnload other", "ModelMetadata a", "ModelInfer a",
		"ModelInfer a", // of the bad picture
		"ModelMetadata a", "ModelInfer a", "ModelInfer a",
	}
	if diff := cmp.Diff(want, server.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// An answer that was under way while models were loaded may be about the model of before.
func TestMetadataOfBeforeALoad(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("a", labels, scores), tritontest.Model{Name: "other"})
	server.MustLoad("a")
	c, ctx := server.Client(t), within(t, deadline)
	server.Intercept(func(call context.Context, rpc, _ string) error {
		if rpc != "ModelMetadata" {
			return nil
		}
		server.Intercept(nil)
		return c.Load(call, "other")
	})
	for range 3 {
		if _, err := c.Classify(ctx, "a", []byte("picture"), 1); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"ModelMetadata a", "RepositoryModelLoad other", "ModelInfer a",
		"ModelMetadata a", "ModelInfer a", "ModelInfer a",
	}
	if diff := cmp.Diff(want, server.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
