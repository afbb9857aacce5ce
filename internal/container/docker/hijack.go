package docker

import (
	"context"

	"github.com/docker/docker/api/types"
)

// hijack returns the stream of a request whose connection is taken over from HTTP. Docker's client waits for the answer
// to such a request without regard to its context (setupHijackConn in its client/hijack.go). So a request that is under
// way when ctx ends is left, and its stream closed if it comes later.
func hijack(
	ctx context.Context, request func(context.Context) (types.HijackedResponse, error),
) (types.HijackedResponse, error) {
	type answer struct {
		stream types.HijackedResponse
		err    error
	}
	answers := make(chan answer)
	go func() {
		stream, err := request(ctx)
		select {
		case answers <- answer{stream, err}:
		case <-ctx.Done():
			if err == nil {
				stream.Close()
			}
		}
	}()
	select {
	case a := <-answers:
		return a.stream, a.err
	case <-ctx.Done():
		return types.HijackedResponse{}, context.Cause(ctx)
	}
}
