package docker

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
)

const (
	// dialWithin bounds each way of a Dial: over ssh, the forwarder takes three requests, each with a handshake.
	dialWithin = 10 * time.Second
	// connectWithin bounds a connection to an address. On one host it takes a millisecond; through a firewall that
	// drops it, it never ends.
	connectWithin = 3 * time.Second
)

// A way is one way to connect this process to a port of a container.
type way struct {
	name string
	dial func(h *handle, ctx context.Context, port uint16) (net.Conn, error)
}

// ways returns all ways, the cheapest first. Only the last one works everywhere.
func ways() []*way {
	return []*way{
		{"where it is published", (*handle).dialPublished},
		{"at the container's own address", (*handle).dialOwn},
		{"by a forwarder inside", (*handle).dialForwarder},
	}
}

// Dial connects to a port by the first way that works, and uses that way alone as long as it works.
func (h *handle) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if reached := h.reached.Load(); reached != nil {
		conn, err := h.dialBy(ctx, port, reached)
		if !errors.Is(err, errNoWay) {
			return conn, err
		}
	}
	return h.dialBy(ctx, port, h.runtime.ways...)
}

// dialBy connects by the first of the given ways that works. The error is errNoWay only if none of them was tried.
func (h *handle) dialBy(ctx context.Context, port uint16, list ...*way) (net.Conn, error) {
	failed := &dialError{what: fmt.Sprintf("dial %s:%d", h.name, port)}
	for _, w := range list {
		conn, err := w.within(ctx, h, port)
		if err == nil {
			h.reached.Store(w)
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", failed.what, context.Cause(ctx))
		}
		if !errors.Is(err, errNoWay) {
			failed.add(w, err)
		}
		if errors.Is(err, errNobody) {
			break
		}
	}
	h.reached.Store(nil)
	if len(failed.causes) == 0 {
		return nil, fmt.Errorf("%s: %w", failed.what, errNoWay)
	}
	return nil, failed
}

func (w *way) within(ctx context.Context, h *handle, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialWithin, fmt.Errorf("%w within %s", errNoReply, dialWithin))
	defer cancel()
	return w.dial(h, ctx, port)
}

var (
	// errNoWay says that a way does not exist for this process, and was not tried.
	errNoWay = errors.New("no way")
	// errNobody says that the container itself refused the connection, so that no other way can succeed.
	errNobody = errors.New("nobody listens")
)

// dialError says why no way to a port works.
type dialError struct {
	what    string
	reasons []string // one for each way that was tried
	causes  []error
}

func (e *dialError) add(w *way, err error) {
	e.reasons = append(e.reasons, w.name+": "+err.Error())
	e.causes = append(e.causes, err)
}

// Error names every way that was tried.
func (e *dialError) Error() string { return e.what + ": " + strings.Join(e.reasons, "; ") }

// Unwrap returns the causes.
func (e *dialError) Unwrap() []error { return e.causes }

// dialPublished connects to the published address. It refuses a loopback address of another host than this process's,
// on which another server may have the port here.
func (h *handle) dialPublished(ctx context.Context, port uint16) (net.Conn, error) {
	f, err := h.runtime.facts(ctx)
	if err != nil {
		return nil, err
	}
	addr, err := h.Addr(ctx, port)
	if err != nil {
		return nil, err
	}
	if addr.Addr().IsLoopback() && f.info.OtherLoopback {
		return nil, fmt.Errorf("%s is of the container engine's host alone", addr)
	}
	return dialTCP(ctx, addr.String())
}

// dialOwn connects to the container's address in a network of the engine that this process is in too.
func (h *handle) dialOwn(ctx context.Context, port uint16) (net.Conn, error) {
	f, err := h.runtime.facts(ctx)
	if err != nil {
		return nil, err
	}
	if len(f.networks) == 0 {
		return nil, errNoWay
	}
	found, err := h.runtime.api.ContainerInspect(ctx, h.id)
	if err != nil {
		return nil, h.runtime.explain(ctx, "inspect", err)
	}
	if found.NetworkSettings != nil {
		for _, n := range found.NetworkSettings.Networks {
			if n.IPAddress != "" && slices.Contains(f.networks, n.NetworkID) {
				conn, err := dialTCP(ctx, net.JoinHostPort(n.IPAddress, strconv.Itoa(int(port))))
				if errors.Is(err, syscall.ECONNREFUSED) {
					err = fmt.Errorf("%w: %w", errNobody, err)
				}
				return conn, err
			}
		}
	}
	return nil, errNoWay
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectWithin}
	return d.DialContext(ctx, "tcp", addr)
}

// forwarder is a Python program that connects to a port and forwards it to its stdin and stdout. Both images have
// Python (3.8 or later), and no other program that can.
//
//go:embed python/forward.py
var forwarder string

// connected is the first byte that the forwarder prints once it is connected.
const connected = '+'

// dialForwarder runs the forwarder in the container, as the kubelet does for kubectl port-forward.
func (h *handle) dialForwarder(ctx context.Context, port uint16) (net.Conn, error) {
	id, stream, err := h.startExec(ctx, dcontainer.ExecOptions{
		Cmd:         []string{"python3", "-I", "-S", "-c", forwarder, strconv.Itoa(int(port))},
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, h.runtime.explain(ctx, "start python3", err)
	}
	// The connection was taken over from HTTP, so the context does not end it by itself.
	stop := context.AfterFunc(ctx, stream.Close)
	defer stop()
	conn, stderr := forward(stream)
	first := make([]byte, 1)
	_, err = io.ReadFull(conn, first)
	if err == nil && first[0] == connected && stop() {
		return conn, nil
	}
	_ = conn.Close() // never fails: see net.Pipe
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	text := <-stderr
	code, err := h.execCode(ctx, id)
	switch {
	case err != nil:
		return nil, h.runtime.explain(ctx, "inspect python3", err)
	case container.MissingCommand(code):
		return nil, errors.New("the image has no python3")
	default:
		return nil, fmt.Errorf("python3 ended with %d: %s", code, text)
	}
}

// forward makes a connection of the streams of a program in the container. stderr gets the program's error output when
// it ends.
func forward(stream types.HijackedResponse) (conn net.Conn, stderr <-chan string) {
	near, far := net.Pipe()
	output := make(chan string, 1)
	go func() {
		_, _ = io.Copy(stream.Conn, far) // it ends, with or without an error, when the connection does
		stream.Close()
	}()
	go func() {
		var text tail
		_, _ = stdcopy.StdCopy(far, &text, stream.Reader) // as above
		_ = far.Close()                                   // never fails: see net.Pipe
		stream.Close()
		output <- strings.TrimSpace(string(text))
	}()
	return near, output
}

// tail keeps the last bytes that are written to it.
type tail []byte

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	*t = append(*t, p...)
	*t = (*t)[max(0, len(*t)-most):]
	return len(p), nil
}
