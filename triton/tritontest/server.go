// Package tritontest provides a Triton server for tests: a real gRPC server on
// the loopback interface, with models that are Go functions.
//
// It behaves as tritonserver 2.51 with --model-control-mode=explicit does:
// states, status codes and messages were taken from that server's answers.
package tritontest

import (
	"context"
	"errors"
	"math"
	"net"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// A Model is an entry of the server's model repository. It has one version, 1.
type Model struct {
	Name string
	// Platform is "python" if empty.
	Platform string
	// Inputs and Outputs have shapes with the batch dimension, if MaxBatch is
	// above 0, and -1 where a size varies.
	Inputs  []triton.TensorMetadata
	Outputs []triton.TensorMetadata
	// MaxBatch is the largest batch of a request; 0 if the model takes none.
	MaxBatch int
	// Labels name the elements of each output in classifications; an empty one
	// is left out.
	Labels []string
	// Requires names the models that are loaded with this one and whose
	// unloading unloads it, as an ensemble's are.
	Requires []string
	// Unreadable says that the server cannot read the model's configuration: it
	// is listed, and loading it fails.
	Unreadable bool
	// Load runs when the model is loaded; its error is the reason why the model
	// is unavailable. A load that hangs waits for ctx, which ends with the test
	// and not with the request, as a server goes on loading when its client
	// leaves. Nil loads at once.
	Load func(ctx context.Context) error
	// Unload runs when the model is unloaded, while its state is UNLOADING; ctx
	// is as for Load. Nil unloads at once.
	Unload func(ctx context.Context)
	// Steps names the models that an ensemble runs a request through, in order,
	// before Infer makes its answer of the ensemble's own inputs. They execute
	// as Execute says; their Infer is not called. Requires loads them.
	Steps []string
	// Execute returns how long an instance is busy with one execution of that
	// many elements, on top of what Infer takes; an execution ends early with
	// the test alone. Requests wait in a queue for one of the instances. Nil
	// executes each request at once and by itself.
	Execute func(batch int) time.Duration
	// Instances is how many executions there are at a time; below 1 it is 1.
	Instances int
	// DynamicBatching has requests that wait for an instance share one
	// execution, of MaxBatch elements at most.
	DynamicBatching bool
	// Infer runs one request, whose inputs fit the model and are in its order,
	// and returns all outputs. An error without a gRPC status is Internal.
	Infer func(ctx context.Context, inputs []triton.Tensor) ([]triton.Tensor, error)
}

// Classifier makes a model that has the outer form of an ensemble which
// classifies encoded pictures: INPUT, UINT8 [-1, -1], to OUTPUT, FP32 with a
// score for each label. A batch is at most 8 pictures, padded to one length.
func Classifier(name string, labels []string, scores func(picture []byte) ([]float32, error)) Model {
	n := int64(len(labels))
	return Model{
		Name:     name,
		Platform: "ensemble",
		Inputs:   []triton.TensorMetadata{{Name: "INPUT", Datatype: triton.Uint8, Shape: []int64{-1, -1}}},
		Outputs:  []triton.TensorMetadata{{Name: "OUTPUT", Datatype: triton.FP32, Shape: []int64{-1, n}}},
		MaxBatch: 8,
		Labels:   labels,
		Infer: func(_ context.Context, inputs []triton.Tensor) ([]triton.Tensor, error) {
			batch, size := inputs[0].Shape[0], inputs[0].Shape[1]
			var all []float32
			for i := range batch {
				one, err := scores(inputs[0].Data[i*size : (i+1)*size])
				if err != nil {
					return nil, err
				}
				all = append(all, one...)
			}
			out, err := triton.NewFloat32("OUTPUT", all, batch, n)
			return []triton.Tensor{out}, err
		},
	}
}

// A Server is a running Triton server. It ends with its test.
type Server struct {
	pb.UnimplementedGRPCInferenceServiceServer

	tb   testing.TB
	ctx  context.Context // of loads, which outlive their requests
	grpc *grpc.Server
	gate *gate
	dial func(ctx context.Context) (net.Conn, error)
	work sync.WaitGroup

	mu        sync.Mutex
	models    []*entry // by name
	calls     []string
	intercept func(ctx context.Context, rpc, model string) error
}

// New starts a server that is live and ready and has loaded no model yet.
func New(tb testing.TB, models ...Model) *Server {
	tb.Helper()
	s := NewUnstarted(tb, models...)
	s.Start()
	return s
}

// NewUnstarted makes a server whose port is there, but on which nothing
// answers before [Server.Start]: connections are accepted and closed, as those
// to a container's published port are until the server in it listens.
func NewUnstarted(tb testing.TB, models ...Model) *Server {
	tb.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen on the loopback interface: %v", err)
	}
	return serve(tb, listener, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", listener.Addr().String())
	}, models)
}

// NewInMemory starts a server that has no port: [Server.Dial] and what is made
// with it are the only ways there. In a bubble of testing/synctest, where
// sockets would keep time from passing, its models execute in the bubble's time.
func NewInMemory(tb testing.TB, models ...Model) *Server {
	tb.Helper()
	const buffer = 1 << 20 // bytes on the way
	listener := bufconn.Listen(buffer)
	s := serve(tb, listener, listener.DialContext, models)
	s.Start()
	return s
}

// serve makes a server for the connections of a listener.
func serve(
	tb testing.TB, listener net.Listener, dial func(context.Context) (net.Conn, error), models []Model,
) *Server {
	tb.Helper()
	s := &Server{tb: tb, ctx: tb.Context(), gate: &gate{Listener: listener}, dial: dial}
	for _, m := range models {
		s.models = append(s.models, &entry{Model: m})
	}
	slices.SortFunc(s.models, byName)
	// A handler that outlives Stop could start a load after the wait for loads.
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.observe), grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(math.MaxInt32))
	pb.RegisterGRPCInferenceServiceServer(s.grpc, s)
	s.work.Go(func() {
		if err := s.grpc.Serve(s.gate); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			tb.Errorf("serve: %v", err)
		}
	})
	// The test's context has ended by then, so what hangs has returned.
	tb.Cleanup(func() {
		s.grpc.Stop()
		s.work.Wait()
	})
	return s
}

// Start lets connections in.
func (s *Server) Start() { s.gate.open.Store(true) }

// Stop ends the server at once, as a crash does: the port is closed and every
// connection and request is cut off.
func (s *Server) Stop() { s.grpc.Stop() }

// Addr returns the server's address as host:port.
func (s *Server) Addr() string { return s.gate.Addr().String() }

// Name and Dial make the server a [triton.Host], whatever the port.
func (s *Server) Name() string { return "tritontest" }

// Dial connects to the server.
func (s *Server) Dial(ctx context.Context, _ uint16) (net.Conn, error) { return s.dial(ctx) }

// Refused returns how many connections were closed before [Server.Start].
func (s *Server) Refused() int { return int(s.gate.refused.Load()) }

// Client returns a client of the server; it is closed when the test ends.
func (s *Server) Client(tb testing.TB) *triton.Client {
	tb.Helper()
	c, err := triton.Dial(s.Addr())
	if err != nil {
		tb.Fatalf("dial %s: %v", s.Addr(), err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("close the client of %s: %v", s.Addr(), err)
		}
	})
	return c
}

// Intercept has f see each call before it is served. Its error fails the call;
// by waiting for ctx, which ends with the call, f makes it hang. model is empty
// for a call that is about no model. Nil ends it.
func (s *Server) Intercept(f func(ctx context.Context, rpc, model string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Calls returns the calls so far, each as the RPC's name and, if there is one,
// a space and the model's: "RepositoryModelLoad dali".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// MustLoad loads models without a request, as --load-model does.
func (s *Server) MustLoad(names ...string) {
	s.tb.Helper()
	for _, name := range names {
		if err := <-s.load(name); err != nil {
			s.tb.Fatalf("load %s: %v", name, err)
		}
	}
}

// observe records each call and applies the interceptor.
func (s *Server) observe(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, serve grpc.UnaryHandler,
) (any, error) {
	rpc, model := path.Base(info.FullMethod), modelOf(req)
	call := rpc
	if model != "" {
		call += " " + model
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	intercept := s.intercept
	s.mu.Unlock()
	if intercept != nil {
		if err := intercept(ctx, rpc, model); err != nil {
			return nil, asStatus(err)
		}
	}
	return serve(ctx, req)
}

func modelOf(req any) string {
	switch r := req.(type) {
	case interface{ GetModelName() string }:
		return r.GetModelName()
	case interface{ GetName() string }:
		return r.GetName()
	default:
		return ""
	}
}

// A gate is a listener that turns connections away until it is open.
type gate struct {
	net.Listener
	open    atomic.Bool
	refused atomic.Int64
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || g.open.Load() {
			return conn, err
		}
		g.refused.Add(1)
		_ = conn.Close() // the peer is to see it closed, however that goes
	}
}
