package triton_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// isOnly wants err to be of a class and of no other; nil is none.
func isOnly(t *testing.T, err, class error) (ok bool) {
	t.Helper()
	ok = true
	fail := func(format string, args ...any) {
		t.Helper()
		ok = false
		t.Errorf(format, args...)
	}
	if _, isTriton := errors.AsType[*triton.Error](err); !isTriton {
		fail("error %v; want a *triton.Error", err)
	}
	for _, c := range []error{triton.ErrUnavailable, triton.ErrNotFound, triton.ErrInvalid, context.DeadlineExceeded, context.Canceled} {
		if want := class != nil && errors.Is(class, c); errors.Is(err, c) != want {
			fail("errors.Is(%v, %v) = %t", err, c, !want)
		}
	}
	return ok
}

// says is a model that fails each request with a status.
func says(name string, code codes.Code) tritontest.Model {
	m := tritontest.Classifier(name, labels, nil)
	m.Infer = func(context.Context, []triton.Tensor) ([]triton.Tensor, error) {
		return nil, status.Error(code, "said so")
	}
	return m
}

func failing(context.Context) error { return errors.New(traceback) }

// TestClassesOfModels holds the documentation of the classes against a model in each state, by each call. What the fake server says there, the
// real one said; package integration asks it again.
func TestClassesOfModels(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t,
		tritontest.Classifier("good", labels, scores), tritontest.Classifier("unloaded", labels, scores), tritontest.Model{Name: "fresh"},
		tritontest.Model{Name: "broken", Load: failing}, tritontest.Model{Name: "unreadable", Unreadable: true},
	)
	server.MustLoad("good", "unloaded")
	c, ctx := server.Client(t), within(t, deadline)
	if err := c.Unload(ctx, "unloaded"); err != nil {
		t.Fatal(err)
	}
	isOnly(t, c.Load(ctx, "broken"), triton.ErrInvalid)
	for _, model := range []string{"nope", "fresh", "unloaded", "broken"} {
		calls := map[string]func() error{
			"infer":    func() error { _, err := c.Infer(ctx, triton.InferRequest{Model: model}); return err },
			"classify": func() error { _, err := c.Classify(ctx, model, []byte("x"), 1); return err },
			"metadata": func() error { _, err := c.ModelMetadata(ctx, model); return err },
			"config":   func() error { _, err := c.ModelConfig(ctx, model); return err },
			"stats":    func() error { _, err := c.Statistics(ctx, model); return err },
		}
		for name, call := range calls {
			if err := call(); !isOnly(t, err, triton.ErrNotFound) {
				t.Errorf("that was %s of %s", name, model)
			}
		}
		if ready, err := c.ModelReady(ctx, model); ready || err != nil {
			t.Errorf("%s is ready: %t, %v", model, ready, err)
		}
		if err := c.Unload(ctx, model); err != nil {
			t.Errorf("unload %s: %v", model, err)
		}
	}
	isOnly(t, c.Load(ctx, "nope"), triton.ErrNotFound)
	isOnly(t, c.Load(ctx, "unreadable"), triton.ErrInvalid)
	_, err := c.Infer(ctx, triton.InferRequest{Model: "good", Version: "2"})
	isOnly(t, err, triton.ErrNotFound)
	_, err = c.Infer(ctx, triton.InferRequest{Model: "good", Version: "x"})
	isOnly(t, err, triton.ErrInvalid)
}

// A load whose failure cannot be looked into keeps the server's own code.
func TestLoadOfUnknownWithoutIndex(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t)
	server.Intercept(func(_ context.Context, rpc, _ string) error {
		if rpc == "RepositoryIndex" {
			return status.Error(codes.Unimplemented, "no")
		}
		return nil
	})
	err := server.Client(t).Load(within(t, deadline), "nope")
	isOnly(t, err, nil)
	if err == nil || !strings.Contains(err.Error(), "failed to poll") {
		t.Errorf("error %v", err)
	}
}

// TestClassesOfCodes is about what a server, a model or somebody on the way says with a code of its own.
func TestClassesOfCodes(t *testing.T) {
	t.Parallel()
	for code, class := range map[codes.Code]error{
		codes.Unavailable: triton.ErrUnavailable, codes.ResourceExhausted: triton.ErrUnavailable, codes.NotFound: triton.ErrNotFound,
		codes.InvalidArgument: triton.ErrInvalid, codes.Internal: nil, codes.Unimplemented: nil, codes.Unknown: nil, codes.AlreadyExists: nil,
		codes.Canceled:         nil,                   // it was not the caller
		codes.DeadlineExceeded: triton.ErrUnavailable, // it was not the caller's
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			server := tritontest.New(t, says("model", code))
			server.MustLoad("model")
			_, err := server.Client(t).Classify(t.Context(), "model", []byte("x"), 1) // a context without a deadline
			isOnly(t, err, class)
			if err == nil || !strings.HasSuffix(err.Error(), "classify with model model: said so") {
				t.Errorf("error %v; want the server's own words", err)
			}
		})
	}
}

// A server that was started to control its models itself refuses for good: to try again would not help.
func TestOtherModelControl(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t)
	server.Intercept(func(context.Context, string, string) error {
		return status.Error(codes.Unavailable, "explicit model load / unload is not allowed if polling is enabled") // Triton 2.51, mode none and poll
	})
	c, ctx := server.Client(t), within(t, deadline)
	isOnly(t, c.Load(ctx, "m"), triton.ErrInvalid)
	isOnly(t, c.Unload(ctx, "m"), triton.ErrInvalid)
}

// TestLargeMessages: what is too large is as large the next time.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier("good", labels, scores))
	server.MustLoad("good")
	for name, option := range map[string]grpc.CallOption{"request": grpc.MaxCallSendMsgSize(1 << 10), "answer": grpc.MaxCallRecvMsgSize(40)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := triton.Dial(server.Addr(), grpc.WithDefaultCallOptions(option))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			input := triton.Tensor{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{1, 2000}, Data: make([]byte, 2000)}
			_, err = c.Infer(within(t, deadline), triton.InferRequest{Model: "good", Inputs: []triton.Tensor{input}})
			isOnly(t, err, triton.ErrInvalid)
		})
	}
	// gRPC's default would be 4 MiB; Triton takes 2³¹−1 bytes.
	if _, err := server.Client(t).Classify(within(t, deadline), "good", make([]byte, 5<<20), 1); err != nil {
		t.Errorf("5 MiB: %v", err)
	}
}

// listen serves each connection by f, which closes it.
func listen(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go f(conn)
		}
	}()
	return l.Addr().String()
}

// TestClassesOfConnections is about who does not answer. What listens is dialed anew with every call.
func TestClassesOfConnections(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	for name, addr := range map[string]string{
		"closed at once": listen(t, func(c *net.TCPConn) { _ = c.Close() }),
		"reset": listen(t, func(c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
		}),
		"Triton's HTTP port": web.Listener.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := triton.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_, err = c.Live(within(t, deadline))
			isOnly(t, err, triton.ErrUnavailable)
			if err == nil || !strings.Contains(err.Error(), addr) {
				t.Errorf("error %v does not name %s", err, addr)
			}
		})
	}
}

// TestClassesOfContexts: only a call whose own context ended says so.
func TestClassesOfContexts(t *testing.T) {
	t.Parallel()
	silent := listen(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c) // until the client leaves
		_ = c.Close()
	})
	hanging := tritontest.New(t)
	hanging.Intercept(func(ctx context.Context, _, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	for name, addr := range map[string]string{"what accepts and says nothing": silent, "a server that hangs": hanging.Addr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := triton.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_, err = c.Live(within(t, 100*time.Millisecond))
			isOnly(t, err, context.DeadlineExceeded)
			if err == nil || !strings.HasSuffix(err.Error(), addr+" did not answer before the deadline") {
				t.Errorf("error %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = c.Live(ctx)
			isOnly(t, err, context.Canceled)
		})
	}
}

// A client that was closed is nobody's interruption, neither of a call that is under way nor of a later one.
func TestClosedClient(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	server := tritontest.New(t)
	server.Intercept(func(ctx context.Context, _, _ string) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	c, err := triton.Dial(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		_ = c.Close()
	}()
	for range 2 {
		_, err := c.Live(within(t, deadline))
		isOnly(t, err, nil)
		if err == nil || err.Error() != "check liveness: the client is closed" {
			t.Errorf("error %v", err)
		}
	}
	if !slices.Equal(server.Calls(), []string{"ServerLive"}) {
		t.Errorf("calls %v", server.Calls())
	}
}
