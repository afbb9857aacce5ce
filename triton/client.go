package triton

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton/pb"
)

// The ports that tritonserver listens on unless --http-port, --grpc-port and
// --metrics-port say otherwise.
const (
	PortHTTP    = 8000
	PortGRPC    = 8001
	PortMetrics = 8002
)

// A Client is a connection to one server. It connects when first used, and
// again whenever the connection is lost. Use [Dial] to make one.
type Client struct {
	addr        string
	conn        *grpc.ClientConn
	rpc         pb.GRPCInferenceServiceClient
	classifiers classifiers
}

// Dial makes a client for the server at addr, "host:port" or
// "grpc://host:port", where port is Triton's gRPC port, [PortGRPC] by default.
// It does not touch the network: whether a server is there shows in the first
// call. The connection is neither encrypted nor authenticated, as Triton
// serves it by default; opts come after Dial's own and can change that with
// [grpc.WithTransportCredentials].
func Dial(addr string, opts ...grpc.DialOption) (*Client, error) {
	target, err := parseAddr(addr)
	if err != nil {
		return nil, err
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A proxy that the environment names is for the internet; it does not
		// know containers and the hosts beside this one.
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			// A server that starts is polled. It is live within 0.1 s, and with
			// gRPC's default of 1 s to 120 s between attempts, during which
			// calls fail without trying, most of the wait would be the
			// client's own.
			Backoff: backoff.Config{
				BaseDelay:  20 * time.Millisecond,
				Multiplier: 1.6,
				Jitter:     0.2,
				MaxDelay:   250 * time.Millisecond,
			},
			// A port that is published before the server listens can accept
			// and then stay silent; gRPC's default would stick to it for 20 s.
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(
			// gRPC's default of 4 MiB is less than a batch of 8 pictures of
			// 3×224×224 in FP32. This is Triton's own limit.
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
		),
	}, opts...)
	// Passthrough resolves the host's name anew with every attempt; gRPC's
	// DNS resolver asks at most once in 30 s, too slow for one just started.
	conn, err := grpc.NewClient("passthrough:///"+target, options...)
	if err != nil {
		return nil, fmt.Errorf("dial triton at %s: %w", target, err)
	}
	return &Client{addr: target, conn: conn, rpc: pb.NewGRPCInferenceServiceClient(conn)}, nil
}

// A Host is what a server runs on, such as a container, and knows a way to its
// ports that need not be an address.
type Host interface {
	// Name is what messages call the host.
	Name() string
	// Dial connects to a port on which a server listens there.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
}

// DialIn makes a client for the server on a host, at [PortGRPC]. It is [Dial]
// in all else; the client's address has the host's name.
func DialIn(host Host, opts ...grpc.DialOption) (*Client, error) {
	way := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return host.Dial(ctx, PortGRPC)
	})
	return Dial(net.JoinHostPort(host.Name(), strconv.Itoa(PortGRPC)), append([]grpc.DialOption{way}, opts...)...)
}

// parseAddr returns the host:port of addr.
func parseAddr(addr string) (string, error) {
	scheme, rest, ok := strings.Cut(addr, "://")
	switch {
	case !ok:
		rest = addr
	case strings.EqualFold(scheme, "http"), strings.EqualFold(scheme, "https"):
		return "", fmt.Errorf("triton address %q is an HTTP one; give that of its gRPC port, host:8001 by default", addr)
	case !strings.EqualFold(scheme, "grpc"):
		return "", fmt.Errorf("triton address %q has the unknown scheme %s; give host:port or grpc://host:port", addr, scheme)
	}
	rest = strings.TrimSuffix(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", fmt.Errorf("triton address %q is not host:port; the port of gRPC is 8001 by default", addr)
	}
	if host == "" || strings.ContainsAny(host, "/?#@ ") {
		return "", fmt.Errorf("triton address %q names no host", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("triton address %q has a port that is not a number from 1 to 65535", addr)
	}
	return rest, nil
}

// Addr returns the server's address as host:port.
func (c *Client) Addr() string { return c.addr }

// Close ends the connection; calls that are under way fail, and later ones. The
// errors of both have no class.
func (c *Client) Close() error { return c.conn.Close() }

// Live tells whether the server answers.
func (c *Client) Live(ctx context.Context) (bool, error) {
	answer, err := c.rpc.ServerLive(ctx, &pb.ServerLiveRequest{})
	if err != nil {
		return false, c.failure(ctx, "check liveness", "", err)
	}
	return answer.GetLive(), nil
}

// liveEvery is how often [Client.WaitLive] asks: a tritonserver is live within
// 0.1 s of its start, and a question that is answered costs one small message.
const liveEvery = 25 * time.Millisecond

// WaitLive returns when the server is live. It asks every 25 ms, which is soon
// for a server that takes 0.1 s to start, and cheap. It waits as long as the
// server is [ErrUnavailable] or says that it is not live; any other error ends
// the wait at once, as waiting does not change it. The only limit is ctx: the
// error of one that ended has the last reason why the server was not live.
func (c *Client) WaitLive(ctx context.Context) error {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	reason := ""
	for {
		live, err := c.Live(ctx)
		switch {
		case live:
			return nil
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // ctx ends
		case err == nil:
			reason = ": it answers, and says that it is not"
		case errors.Is(err, ErrUnavailable):
			unavailable, _ := errors.AsType[*Error](err)
			reason = ": " + unavailable.Message
		default:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &Error{
				Op: "wait for the server", Code: status.FromContextError(ctx.Err()).Code(),
				Message: c.addr + " is not live yet" + reason,
			}
		}
	}
}

// Ready tells whether the server is ready: no model is being loaded and none
// has failed to. With explicit model control that is so before any is loaded.
func (c *Client) Ready(ctx context.Context) (bool, error) {
	answer, err := c.rpc.ServerReady(ctx, &pb.ServerReadyRequest{})
	if err != nil {
		return false, c.failure(ctx, "check readiness", "", err)
	}
	return answer.GetReady(), nil
}

// ModelReady tells whether a model is loaded. Of a model that is not in the
// repository servers say false or, newer ones, [ErrNotFound].
func (c *Client) ModelReady(ctx context.Context, model string) (bool, error) {
	answer, err := c.rpc.ModelReady(ctx, &pb.ModelReadyRequest{Name: model})
	if err != nil {
		return false, c.failure(ctx, "check readiness of model", model, err)
	}
	return answer.GetReady(), nil
}

// Metadata is what a server says of itself.
type Metadata struct {
	Name string
	// Version is Triton's own, such as 2.51.0, not that of a release.
	Version    string
	Extensions []string
}

// Metadata returns the server's name, version and extensions.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	answer, err := c.rpc.ServerMetadata(ctx, &pb.ServerMetadataRequest{})
	if err != nil {
		return Metadata{}, c.failure(ctx, "read metadata of server", "", err)
	}
	return Metadata{Name: answer.GetName(), Version: answer.GetVersion(), Extensions: answer.GetExtensions()}, nil
}

// ModelMetadata is what a server says of a loaded model.
type ModelMetadata struct {
	Name     string
	Versions []string
	Platform string
	Inputs   []TensorMetadata
	Outputs  []TensorMetadata
}

// TensorMetadata describes an input or output of a model.
type TensorMetadata struct {
	Name     string
	Datatype Datatype
	// Shape includes the batch dimension where the model has one; a size that
	// varies is -1.
	Shape []int64
}

// ModelMetadata returns the versions and tensors of a loaded model.
func (c *Client) ModelMetadata(ctx context.Context, model string) (ModelMetadata, error) {
	answer, err := c.rpc.ModelMetadata(ctx, &pb.ModelMetadataRequest{Name: model})
	if err != nil {
		return ModelMetadata{}, c.failure(ctx, "read metadata of model", model, err)
	}
	return ModelMetadata{
		Name:     answer.GetName(),
		Versions: answer.GetVersions(),
		Platform: answer.GetPlatform(),
		Inputs:   tensorMetadata(answer.GetInputs()),
		Outputs:  tensorMetadata(answer.GetOutputs()),
	}, nil
}

func tensorMetadata(tensors []*pb.ModelMetadataResponse_TensorMetadata) []TensorMetadata {
	out := make([]TensorMetadata, len(tensors))
	for i, t := range tensors {
		out[i] = TensorMetadata{Name: t.GetName(), Datatype: Datatype(t.GetDatatype()), Shape: t.GetShape()}
	}
	return out
}

// ModelConfig returns the configuration of a loaded model, with what the
// server completed.
func (c *Client) ModelConfig(ctx context.Context, model string) (*pb.ModelConfig, error) {
	const op = "read configuration of model"
	answer, err := c.rpc.ModelConfig(ctx, &pb.ModelConfigRequest{Name: model})
	if err != nil {
		return nil, c.failure(ctx, op, model, err)
	}
	if answer.GetConfig() == nil {
		return nil, misread(op, model, "the answer holds none")
	}
	return answer.GetConfig(), nil
}
