package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
)

// silence bounds the wait for the rest of an ended container's output. It is given up after this time without a byte.
const silence = 10 * time.Second

// reread bounds the output that is read a second time, in bytes. A small machine reads 4 MB/s.
const reread = 16 << 20

// output carries a container's output to the writers of its user.
//
// It attaches before the start. It follows the engine's log only for engines that refuse to attach (Podman 4.3),
// because a followed log ends too early on Docker Engine 20.10: it leaves out what its reader has not read when the
// container exits, up to all of it, and repeats or drops lines where the log is rotated (each was observed). So a
// followed output of up to reread bytes is read once more after the exit, without the bytes that the writers have.
type output struct {
	handle         *handle
	stdout, stderr *tap
	copied         chan error
	followed       bool
}

// attach begins to read, unless both writers are nil.
func (h *handle) attach(ctx, life context.Context, out container.Streams) (*output, error) {
	o := &output{
		handle: h, copied: make(chan error, 1),
		stdout: &tap{dst: out.Stdout}, stderr: &tap{dst: out.Stderr},
	}
	if o.silent() {
		o.copied <- nil
		return o, nil
	}
	stream, err := hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
		return h.runtime.api.ContainerAttach(ctx, h.id, dcontainer.AttachOptions{
			Stream: true, Stdout: out.Stdout != nil, Stderr: out.Stderr != nil,
		})
	})
	switch {
	case err == nil:
		o.copy(life, stream)
	case ctx.Err() != nil || kindOf(err) != nil:
		return nil, h.runtime.explain(ctx, "attach to "+h.name, err)
	default:
		o.followed = true
	}
	return o, nil
}

func (o *output) copy(life context.Context, stream types.HijackedResponse) {
	// The connection was taken over from HTTP, so a context does not end it by itself.
	detach := context.AfterFunc(life, stream.Close)
	go func() {
		_, err := stdcopy.StdCopy(o.stdout, o.stderr, stream.Reader)
		detach()
		stream.Close()
		o.copied <- err
	}()
}

func (o *output) silent() bool { return o.stdout.dst == nil && o.stderr.dst == nil }

// follow reads the log of a started container to which attach could not attach.
func (o *output) follow(ctx, life context.Context) error {
	if !o.followed {
		return nil
	}
	opening, opened := context.WithCancel(life)
	stop := context.AfterFunc(ctx, opened)
	logs, err := o.log(opening, true)
	if !stop() && err == nil { // ctx ended while the log was opened
		err = errors.Join(context.Cause(ctx), logs.Close())
	}
	if err != nil {
		opened()
		return o.handle.runtime.explain(ctx, "follow the output of "+o.handle.name, err)
	}
	go func() {
		_, err := stdcopy.StdCopy(o.stdout, o.stderr, logs)
		err = errors.Join(err, logs.Close())
		opened()
		o.copied <- err
	}()
	return nil
}

func (o *output) log(ctx context.Context, follow bool) (io.ReadCloser, error) {
	return o.handle.runtime.api.ContainerLogs(ctx, o.handle.id, dcontainer.LogsOptions{
		ShowStdout: o.stdout.dst != nil, ShowStderr: o.stderr.dst != nil, Follow: follow,
	})
}

// finish returns once the writers have the last byte of a container that has ended.
func (o *output) finish(ctx context.Context) error {
	if err := o.await(o.copied); err != nil {
		return err
	}
	if !o.followed || o.stdout.written+o.stderr.written > reread {
		return nil
	}
	logs, err := o.log(ctx, false)
	if err != nil {
		return o.handle.runtime.explain(ctx, "read again", err)
	}
	o.stdout.rewind()
	o.stderr.rewind()
	secondCopy := make(chan error, 1)
	go func() {
		_, err := stdcopy.StdCopy(o.stdout, o.stderr, logs)
		secondCopy <- err
	}()
	return errors.Join(o.await(secondCopy), logs.Close())
}

// await waits for the end of a copy as long as bytes arrive.
func (o *output) await(copied <-chan error) error {
	for {
		before := o.stdout.passed.Load() + o.stderr.passed.Load()
		timer := time.NewTimer(silence)
		select {
		case err := <-copied:
			timer.Stop()
			return err
		case <-timer.C:
			if o.stdout.passed.Load()+o.stderr.passed.Load() == before {
				return fmt.Errorf("its end did not arrive within %s of the container's", silence)
			}
		}
	}
}

// tap writes bytes to dst, and after a rewind only those that it has not written before.
type tap struct {
	dst     io.Writer    // nil discards
	written int64        // bytes that dst got
	skip    int64        // bytes to skip
	passed  atomic.Int64 // bytes read, including skipped ones
}

func (t *tap) rewind() { t.skip = t.written }

// Write writes the bytes of p that are not skipped.
func (t *tap) Write(p []byte) (int, error) {
	t.passed.Add(int64(len(p)))
	skipped := int(min(t.skip, int64(len(p))))
	t.skip -= int64(skipped)
	if t.dst == nil || skipped == len(p) {
		return len(p), nil
	}
	n, err := t.dst.Write(p[skipped:])
	t.written += int64(n)
	return skipped + n, err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
