package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/docker/docker/api/types"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
)

type addrs = map[uint16]netip.AddrPort

// handle is a container that this process started or opened.
type handle struct {
	runtime  *Runtime
	id, name string
	volumes  []volume // with outputs to copy when the container has ended
	stopped  atomic.Bool
	reached  atomic.Pointer[way] // the way by which the last Dial succeeded

	// done is closed when exit and err are final. It is nil for a container that another process started.
	done chan struct{}
	exit container.Exit
	err  error
}

// Open finds a container that another process started.
func (r *Runtime) Open(ctx context.Context, id string) (container.Container, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	found, err := r.api.ContainerInspect(ctx, id)
	if err != nil {
		return nil, r.explain(ctx, "container "+id, err)
	}
	return &handle{runtime: r, id: found.ID, name: strings.TrimPrefix(found.Name, "/")}, nil
}

func (h *handle) ID() string   { return h.id }
func (h *handle) Name() string { return h.name }

// end waits for the exit and then for the end of the output, copies outputs, and finds out whether the kernel killed
// the container for memory.
func (h *handle) end(ctx context.Context, o *output) (container.Exit, error) {
	exit, err := h.awaitExit(ctx)
	if err != nil {
		return exit, err
	}
	if err := o.finish(ctx); err != nil {
		return exit, fmt.Errorf("output of %s: %w", h.name, err)
	}
	if err := h.collect(ctx); err != nil {
		return exit, err
	}
	return exit, h.complete(ctx, &exit)
}

func (h *handle) awaitExit(ctx context.Context) (container.Exit, error) {
	results, failures := h.runtime.api.ContainerWait(ctx, h.id, dcontainer.WaitConditionNotRunning)
	select {
	case result := <-results:
		if result.Error != nil && result.Error.Message != "" {
			return container.Exit{}, fmt.Errorf("wait for %s: %s", h.name, result.Error.Message)
		}
		return container.Exit{Code: int(result.StatusCode)}, nil
	case err := <-failures:
		// the engine died before it answered
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
			err = &runtimeError{kind: container.ErrUnreachable, text: err.Error(), cause: err}
		}
		return container.Exit{}, h.runtime.explain(ctx, "wait for "+h.name, err)
	}
}

// Wait returns how the container ended.
func (h *handle) Wait(ctx context.Context) (container.Exit, error) {
	if h.done == nil {
		exit, err := h.awaitExit(ctx)
		if err == nil {
			err = h.complete(ctx, &exit)
		}
		return exit, err
	}
	select {
	case <-h.done:
		return h.exit, h.err
	case <-ctx.Done():
		return container.Exit{}, context.Cause(ctx)
	}
}

// Stop sends the stop signal, and kills after grace.
func (h *handle) Stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, grace+answer, fmt.Errorf("%w within %s", errNoReply, grace+answer))
	defer cancel()
	h.stopped.Store(true)
	var err error
	if seconds := wholeSeconds(grace); seconds > 0 {
		err = h.terminate(ctx, seconds)
	} else {
		err = h.runtime.api.ContainerKill(ctx, h.id, "KILL")
	}
	if err == nil || isNotRunning(err) {
		return nil
	}
	return h.runtime.explain(ctx, "stop "+h.name, err)
}

// terminate has the engine send the stop signal. Docker lets a paused container go on for it, and Podman refuses to
// stop one.
func (h *handle) terminate(ctx context.Context, seconds int) error {
	options := dcontainer.StopOptions{Timeout: &seconds}
	err := h.runtime.api.ContainerStop(ctx, h.id, options)
	if err == nil || !containsAny(err.Error(), "is in state paused", "is running or paused") { // 4.3.1 says the second
		return err
	}
	if err := h.runtime.api.ContainerUnpause(ctx, h.id); err != nil {
		return err
	}
	return h.runtime.api.ContainerStop(ctx, h.id, options)
}

// wholeSeconds rounds up to the seconds in which the engine counts, so that a short grace does not become none.
func wholeSeconds(d time.Duration) int { return int(math.Ceil(max(0, d.Seconds()))) }

// Addr returns where a published port answers on the host.
func (h *handle) Addr(ctx context.Context, port uint16) (netip.AddrPort, error) {
	ctx, cancel := h.runtime.limit(ctx)
	defer cancel()
	what := fmt.Sprintf("port %d of %s", port, h.name)
	found, err := h.runtime.api.ContainerInspect(ctx, h.id)
	if err != nil {
		return netip.AddrPort{}, h.runtime.explain(ctx, what, err)
	}
	if found.NetworkSettings != nil {
		for _, binding := range found.NetworkSettings.Ports[tcp(port)] {
			if addr, err := published(binding.HostIP, binding.HostPort); err == nil {
				return container.DialAddr(addr), nil
			}
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s: %w: it is not published, or the container has ended", what,
		container.ErrNotFound)
}

// published returns the address on which the engine reports a port as published.
func published(ip, port string) (netip.AddrPort, error) {
	if ip == "" { // the engine got no address, or reports none for all of them
		ip = netip.IPv4Unspecified().String()
	}
	return netip.ParseAddrPort(net.JoinHostPort(ip, port))
}

// Exec runs argv inside and returns its exit code.
func (h *handle) Exec(ctx context.Context, argv []string, out container.Streams) (int, error) {
	what := fmt.Sprintf("exec %q in %s", argv, h.name)
	id, stream, err := h.startExec(ctx, dcontainer.ExecOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, h.runtime.explain(ctx, what, err)
	}
	defer stream.Close()
	// The connection was taken over from HTTP, so the context does not end it by itself.
	defer context.AfterFunc(ctx, stream.Close)()
	_, copyErr := stdcopy.StdCopy(orDiscard(out.Stdout), orDiscard(out.Stderr), stream.Reader)
	if ctx.Err() != nil {
		return 0, h.runtime.explain(ctx, what, context.Cause(ctx))
	}
	code, err := h.execCode(ctx, id)
	if err != nil {
		return 0, h.runtime.explain(ctx, what, err)
	}
	// About a missing command, an engine writes plain text in place of the framed output: then the exit code counts.
	if copyErr != nil && code == 0 {
		return 0, fmt.Errorf("%s: output: %w", what, copyErr)
	}
	return code, nil
}

// startExec starts a program in the container, attached as the options say.
func (h *handle) startExec(
	ctx context.Context, options dcontainer.ExecOptions,
) (string, types.HijackedResponse, error) {
	created, err := h.runtime.api.ContainerExecCreate(ctx, h.id, options)
	if err != nil {
		return "", types.HijackedResponse{}, err
	}
	stream, err := hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
		return h.runtime.api.ContainerExecAttach(ctx, created.ID, dcontainer.ExecAttachOptions{})
	})
	return created.ID, stream, err
}

// execCode waits for the exit code, which the engine may know a moment after the end of the output.
func (h *handle) execCode(ctx context.Context, id string) (int, error) {
	ctx, cancel := h.runtime.limit(ctx)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		state, err := h.runtime.api.ContainerExecInspect(ctx, id)
		if err != nil || !state.Running {
			return state.ExitCode, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
