package serving

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/triton"
)

// reachWithin bounds the connection to a server, for which the container engine is asked several times. It is more than
// a connection takes through the slowest way, a forwarder in the container of an engine behind ssh.
const reachWithin = 20 * time.Second

// link is a host with one connection, which is made before a client asks for it: so the client's deadlines bound the
// server's answers alone, and not the container engine's. There is no second one.
type link struct {
	triton.Host

	conn chan net.Conn
}

func newLink(host triton.Host) link { return link{host, make(chan net.Conn, 1)} }

// connect makes the connection. See isNoVerdict for its errors.
func (l link) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reachWithin,
		fmt.Errorf("%w: no connection to the server within %s", container.ErrUnreachable, reachWithin))
	defer cancel()
	conn, err := l.Host.Dial(ctx, triton.PortGRPC)
	if err == nil {
		l.conn <- conn
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Dial returns the connection, once.
func (l link) Dial(context.Context, uint16) (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	default:
		return nil, errors.New("it ended the connection")
	}
}

// close closes the connection if no client has it.
func (l link) close() {
	select {
	case conn := <-l.conn:
		_ = conn.Close() // nothing was sent
	default:
	}
}

// isNoVerdict reports whether an error of a connection is about the container engine and not about the server.
func isNoVerdict(err error) bool {
	sentinels := []error{
		container.ErrUnreachable, container.ErrFailing, container.ErrSettings, container.ErrPermission,
	}
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}
