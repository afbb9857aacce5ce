package triton_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// deadline bounds every wait for the server of a test.
const deadline = 20 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

var labels = []string{"tench", "espresso: dark", "", "cup"}

// traceback is what a Python model's failure looks like.
const traceback = "RuntimeError: no weights here\n\nAt:\n  model.py(2): initialize"

// scores is 0.5, −1.25, 3.75, 2e-8 for any picture but "bad".
func scores(picture []byte) ([]float32, error) {
	if strings.HasPrefix(string(picture), "bad") {
		return nil, errors.New("bad picture")
	}
	return []float32{0.5, -1.25, 3.75, 2e-8}, nil
}

func TestDialAddress(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8001":         "127.0.0.1:8001",
		"grpc://localhost:8001":  "localhost:8001",
		"GRPC://localhost:8001/": "localhost:8001",
		"[::1]:65535":            "[::1]:65535",
	} {
		c, err := triton.Dial(addr)
		if err != nil {
			t.Errorf("Dial(%q): %v", addr, err)
			continue
		}
		if c.Addr() != want {
			t.Errorf("Dial(%q).Addr() = %q; want %q", addr, c.Addr(), want)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for addr, want := range map[string]string{
		"":                      "not host:port",
		"localhost":             "8001 by default",
		"::1":                   "not host:port",
		":8001":                 "names no host",
		"localhost:0":           "from 1 to 65535",
		"localhost:65536":       "from 1 to 65535",
		"localhost:grpc":        "from 1 to 65535",
		"http://localhost:8000": "gRPC port",
		"grpcs://localhost:1":   "unknown scheme grpcs",
		"grpc://a/b:8001":       "names no host",
	} {
		_, err := triton.Dial(addr)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Dial(%q): error %v; want one with %q", addr, err, want)
		}
	}
}

func TestDialIn(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t)
	c, err := triton.DialIn(server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing is in flight
	if live, err := c.Live(within(t, deadline)); err != nil || !live || c.Addr() != "tritontest:8001" {
		t.Errorf("Live = %t, %v of %s; want true", live, err, c.Addr())
	}
	if _, err := triton.DialIn(nowhere("a/b")); err == nil {
		t.Error("a host without a name: no error")
	}
	lost, err := triton.DialIn(nowhere("away"))
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close() //nolint:errcheck // nothing is in flight
	if _, err := lost.Live(within(t, deadline)); !errors.Is(err, triton.ErrUnavailable) || !strings.HasSuffix(err.Error(), ": away:8001: no way to port 8001") {
		t.Errorf("error %v; want the host's own", err)
	}
}

// nowhere is a host without a way to it.
type nowhere string

func (n nowhere) Name() string { return string(n) }

func (nowhere) Dial(_ context.Context, port uint16) (net.Conn, error) {
	return nil, fmt.Errorf("no way to port %d", port)
}

func TestServerCalls(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t)
	c, ctx := server.Client(t), within(t, deadline)
	if live, err := c.Live(ctx); err != nil || !live {
		t.Errorf("Live = %t, %v; want true", live, err)
	}
	if ready, err := c.Ready(ctx); err != nil || !ready {
		t.Errorf("Ready = %t, %v; want true without any model", ready, err)
	}
	meta, err := c.Metadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Name != "triton" || meta.Version == "" || len(meta.Extensions) == 0 {
		t.Errorf("Metadata = %+v", meta)
	}
	want := []string{"ServerLive", "ServerReady", "ServerMetadata"}
	if diff := cmp.Diff(want, server.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t,
		tritontest.Classifier("good", labels, scores),
		tritontest.Model{Name: "new"},
		tritontest.Model{Name: "broken", Load: func(context.Context) error {
			return errors.New(traceback + "\n")
		}},
		tritontest.Model{Name: "ensemble", Requires: []string{"broken"}},
	)
	server.MustLoad("good")
	c := server.Client(t)
	infer := func(input triton.Tensor) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.Infer(ctx, triton.InferRequest{Model: "good", ID: "x1", Inputs: []triton.Tensor{input}})
			return err
		}
	}
	for name, test := range map[string]struct {
		call func(context.Context) error
		want triton.Error
		is   error
	}{
		"unknown model": {
			func(ctx context.Context) error { _, err := c.ModelMetadata(ctx, "nope"); return err },
			triton.Error{
				Op: "read metadata of model", Model: "nope", Code: codes.NotFound,
				Message: "request for unknown model: 'nope' is not found",
			},
			triton.ErrNotFound,
		},
		"model not loaded": {
			func(ctx context.Context) error { _, err := c.ModelConfig(ctx, "new"); return err },
			triton.Error{
				Op: "read configuration of model", Model: "new", Code: codes.NotFound,
				Message: "request for unknown model: 'new' is not found",
			},
			triton.ErrNotFound,
		},
		"statistics": {
			func(ctx context.Context) error { _, err := c.Statistics(ctx, "new"); return err },
			triton.Error{
				Op: "read statistics of model", Model: "new", Code: codes.NotFound,
				Message: "requested model 'new' is not available",
			},
			triton.ErrNotFound,
		},
		"load of an unknown model": {
			func(ctx context.Context) error { return c.Load(ctx, "nope") },
			triton.Error{
				Op: "load model", Model: "nope", Code: codes.NotFound,
				Message: "failed to load 'nope', failed to poll from model repository",
			},
			triton.ErrNotFound,
		},
		"load of a broken model": {
			func(ctx context.Context) error { return c.Load(ctx, "broken") },
			triton.Error{
				Op: "load model", Model: "broken", Code: codes.InvalidArgument,
				Message: "version 1 is at UNAVAILABLE state: Internal: " + traceback,
			},
			triton.ErrInvalid,
		},
		"load of its ensemble": {
			func(ctx context.Context) error { return c.Load(ctx, "ensemble") },
			triton.Error{
				Op: "load model", Model: "ensemble", Code: codes.InvalidArgument,
				Message: "ensemble 'ensemble' depends on 'broken' which has no loaded version. " +
					"Model 'broken' loading failed with error: version 1 is at UNAVAILABLE state: " +
					"Internal: " + traceback,
			},
			triton.ErrInvalid,
		},
		"input name": {
			infer(triton.Tensor{Name: "IN", Datatype: triton.Uint8, Shape: []int64{1, 0}}),
			triton.Error{
				Op: "infer with model", Model: "good", Code: codes.InvalidArgument,
				Message: "unexpected inference input 'IN' for model 'good'",
			},
			triton.ErrInvalid,
		},
		"input shape": {
			infer(triton.Tensor{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{0}}),
			triton.Error{
				Op: "infer with model", Model: "good", Code: codes.InvalidArgument,
				Message: "unexpected shape for input 'INPUT' for model 'good'. Expected [-1,-1], got [0]",
			},
			triton.ErrInvalid,
		},
		"batch": {
			infer(triton.Tensor{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{9, 1}, Data: make([]byte, 9)}),
			triton.Error{
				Op: "infer with model", Model: "good", Code: codes.InvalidArgument,
				Message: "inference request batch-size must be <= 8 for 'good'",
			},
			triton.ErrInvalid,
		},
		"data, refused by the client": {
			infer(triton.Tensor{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{1, 2}, Data: make([]byte, 9)}),
			triton.Error{
				Op: "infer with model", Model: "good", Code: codes.InvalidArgument,
				Message: "tensor INPUT has 9 bytes of data, but shape [1 2] holds 2 elements of UINT8, 1 bytes each",
			},
			triton.ErrInvalid,
		},
		"model's own error": {
			func(ctx context.Context) error { _, err := c.Classify(ctx, "good", []byte("bad"), 1); return err },
			triton.Error{
				Op: "classify with model", Model: "good", Code: codes.Internal, Message: "bad picture",
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.call(within(t, deadline))
			var got *triton.Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v; want a *triton.Error", err)
			}
			if diff := cmp.Diff(test.want, *got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			for _, sentinel := range []error{triton.ErrNotFound, triton.ErrInvalid, triton.ErrUnavailable, context.DeadlineExceeded} {
				if want := errors.Is(test.is, sentinel); errors.Is(err, sentinel) != want {
					t.Errorf("errors.Is(%v, %v) = %t", err, sentinel, !want)
				}
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := triton.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = c.Live(within(t, deadline))
	if !errors.Is(err, triton.ErrUnavailable) {
		t.Fatalf("error %v; want ErrUnavailable", err)
	}
	if want := "check liveness: dial tcp " + addr + ": connect: connection refused"; err.Error() != want {
		t.Errorf("error %q; want %q", err, want)
	}
}

// A server that starts is reached soon: with gRPC's default backoff there
// would be at most three attempts in 2.5 s.
func TestPollUntilLive(t *testing.T) {
	t.Parallel()
	server := tritontest.NewUnstarted(t)
	c, ctx := server.Client(t), within(t, 2500*time.Millisecond)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		live, err := c.Live(ctx)
		switch {
		case live && err == nil:
			return
		case ctx.Err() != nil:
			t.Fatalf("not live after %d attempts to connect: %v", server.Refused(), err)
		case !errors.Is(err, triton.ErrUnavailable):
			t.Fatalf("error %v; want ErrUnavailable", err)
		case !strings.Contains(err.Error(), server.Addr()):
			t.Fatalf("error %v does not name the address", err)
		}
		if server.Refused() >= 4 {
			server.Start()
		}
		<-poll.C
	}
}

func TestWaitLive(t *testing.T) {
	t.Parallel()
	server := tritontest.NewUnstarted(t)
	answers := 0
	server.Intercept(func(context.Context, string, string) error {
		if answers++; answers < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return nil
	})
	ctx, waited := within(t, deadline), make(chan error, 1)
	go func() { waited <- server.Client(t).WaitLive(ctx) }()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for server.Refused() == 0 {
		select {
		case err := <-waited:
			t.Fatalf("it returned %v before the server was started", err)
		case <-poll.C:
		}
	}
	server.Start()
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if n := len(server.Calls()); n != 3 {
		t.Errorf("the server was asked %d times; it was live at the third", n)
	}
}

// The error of a wait that ctx ended is of ctx's class and says what the server's state was.
func TestWaitLiveEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer error
		class  error
		says   string
	}{
		"unavailable":     {status.Error(codes.Unavailable, "server is starting"), context.DeadlineExceeded, " is not live yet: server is starting"},
		"another service": {status.Error(codes.Unimplemented, "unknown service"), nil, "check liveness: unknown service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := tritontest.New(t)
			server.Intercept(func(context.Context, string, string) error { return c.answer })
			limit := deadline
			if c.class != nil {
				limit = 200 * time.Millisecond
			}
			err := server.Client(t).WaitLive(within(t, limit))
			isOnly(t, err, c.class)
			if err == nil || !strings.HasSuffix(err.Error(), c.says) {
				t.Errorf("error %v; want one that ends with %q", err, c.says)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		server := tritontest.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		server.Intercept(func(call context.Context, _, _ string) error {
			cancel()
			<-call.Done()
			return call.Err()
		})
		err := server.Client(t).WaitLive(ctx)
		isOnly(t, err, context.Canceled)
		if want := "wait for the server: " + server.Addr() + " is not live yet"; err == nil || err.Error() != want {
			t.Errorf("error %v; want %q", err, want)
		}
	})
}

func TestServerStops(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Model{Name: "slow", Load: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	c := server.Client(t)
	server.Intercept(func(ctx context.Context, rpc, _ string) error {
		if rpc == "RepositoryModelLoad" {
			go server.Stop()
		}
		<-ctx.Done()
		return ctx.Err()
	})
	err := c.Load(within(t, deadline), "slow")
	if !errors.Is(err, triton.ErrUnavailable) {
		t.Errorf("error %v; want ErrUnavailable", err)
	}
}

func TestIntercept(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("good", labels, scores))
	server.MustLoad("good")
	c := server.Client(t)
	server.Intercept(func(ctx context.Context, rpc, model string) error {
		if rpc == "ModelInfer" && model == "good" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	_, err := c.Classify(within(t, 100*time.Millisecond), "good", []byte("x"), 1)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v; want the deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Live(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want the cancellation", err)
	}
	server.Intercept(nil)
	if _, err := c.Classify(within(t, deadline), "good", []byte("x"), 1); err != nil {
		t.Errorf("after the interception: %v", err)
	}
}
