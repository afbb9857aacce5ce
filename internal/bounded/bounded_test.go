package bounded_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bounded"
)

// What takes long is not waited for after the context has ended.
func TestCallEndsWithContext(t *testing.T) {
	t.Parallel()
	begun, never := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(never) })
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		cancel(stopped)
	}()
	if _, err := bounded.Call(ctx, func() (int, error) {
		close(begun)
		<-never
		return 1, nil
	}); !errors.Is(err, stopped) {
		t.Errorf("it ended with %v", err)
	}
	if n, err := bounded.Call(t.Context(), func() (int, error) { return 1, nil }); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// A copy ends with the context, and not only with its input.
func TestReader(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := bounded.Reader(ctx, strings.NewReader("abcd"))
	two := make([]byte, 2)
	if n, err := r.Read(two); n != 2 || err != nil || string(two) != "ab" {
		t.Errorf("read %q, %v", two[:n], err)
	}
	cancel(stopped)
	if n, err := r.Read(two); n != 0 || !errors.Is(err, stopped) {
		t.Errorf("after the end: %d, %v", n, err)
	}
}
