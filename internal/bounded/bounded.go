// Package bounded bounds by a context what no context interrupts: to open a named pipe, to ask a disk of the network.
package bounded

import (
	"context"
	"io"
)

// Call returns what do returns, or the cause of ctx's end, whichever comes first. What is still being done then goes on
// until the process ends.
func Call[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// Reader returns a reader of r that ends with the cause of ctx once ctx has ended, as between two reads of a long copy.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context //nolint:containedctx // io.Copy has no parameter for it
	r   io.Reader
}

// Read implements [io.Reader].
func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
