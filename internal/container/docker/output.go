package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
)

// silence bounds the wait for the rest of an ended container's output: this long without a byte, and it is given up.
const silence = 10 * time.Second

// output carries a container's output to the writers of its user.
//
// It follows the engine's log rather than attaching: nothing is lost between create and attach, no connection is
// hijacked, and Podman refuses attaching. But a log that is followed can end too early: Docker Engine 20.10 leaves out
// what its reader has not seen when the container exits, up to all of it. So the log of an ended container is read once
// more, and what the writers have had is skipped. Its end is complete: an engine reports an exit after it closed the log.
type output struct {
	handle         *handle
	stdout, stderr *tap
	followed       chan error
}

// openOutput begins to follow. Nil writers discard; with two of them there is nothing to follow.
func (h *handle) openOutput(ctx context.Context, out container.Streams) (*output, error) {
	o := &output{
		handle: h, followed: make(chan error, 1),
		stdout: &tap{to: out.Stdout}, stderr: &tap{to: out.Stderr},
	}
	if o.silent() {
		o.followed <- nil
		return o, nil
	}
	logs, err := o.open(ctx, true)
	if err != nil {
		return nil, err
	}
	go func() {
		_, err := stdcopy.StdCopy(o.stdout, o.stderr, logs)
		o.followed <- errors.Join(err, logs.Close())
	}()
	return o, nil
}

func (o *output) silent() bool { return o.stdout.to == nil && o.stderr.to == nil }

func (o *output) open(ctx context.Context, follow bool) (io.ReadCloser, error) {
	return o.handle.runtime.api.ContainerLogs(ctx, o.handle.id, dcontainer.LogsOptions{
		ShowStdout: o.stdout.to != nil, ShowStderr: o.stderr.to != nil, Follow: follow,
	})
}

// finish returns after the last byte of a container that has ended.
func (o *output) finish(ctx context.Context) error {
	if err := o.await(o.followed); err != nil {
		return err
	}
	if o.silent() {
		return nil
	}
	logs, err := o.open(ctx, false)
	if err != nil {
		return o.handle.runtime.explain(ctx, "read again", err)
	}
	o.stdout.rewind()
	o.stderr.rewind()
	reread := make(chan error, 1)
	go func() {
		_, err := stdcopy.StdCopy(o.stdout, o.stderr, logs)
		reread <- err
	}()
	return errors.Join(o.await(reread), logs.Close())
}

// await waits for the end of a copy as long as some of it arrives.
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

// tap hands bytes on, and after a rewind only those that it has not handed on before.
type tap struct {
	to     io.Writer    // nil discards
	had    int64        // bytes handed on
	skip   int64        // bytes to leave out
	passed atomic.Int64 // bytes seen, skipped ones among them
}

func (t *tap) rewind() { t.skip = t.had }

// Write takes p.
func (t *tap) Write(p []byte) (int, error) {
	t.passed.Add(int64(len(p)))
	skipped := int(min(t.skip, int64(len(p))))
	t.skip -= int64(skipped)
	if t.to == nil || skipped == len(p) {
		return len(p), nil
	}
	n, err := t.to.Write(p[skipped:])
	t.had += int64(n)
	return skipped + n, err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
