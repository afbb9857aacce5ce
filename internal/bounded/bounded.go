// Package bounded bounds by a context what no context interrupts: to open a named pipe, to ask a disk of the network.
package bounded

import "context"

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
