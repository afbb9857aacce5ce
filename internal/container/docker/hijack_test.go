package docker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// An engine that accepts a request for a stream and does not answer keeps nobody beyond the context.
func TestStreamOfAnEngineThatHangs(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *handle) error{
		"Dial": func(ctx context.Context, h *handle) error { _, err := h.Dial(ctx, 8001); return err },
		"Exec": func(ctx context.Context, h *handle) error {
			_, err := h.Exec(ctx, []string{"true"}, container.Streams{})
			return err
		},
		"attach": func(ctx context.Context, h *handle) error {
			_, err := h.attach(ctx, t.Context(), container.Streams{Stdout: io.Discard})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := errors.New("the caller is impatient")
			ctx, cancel := context.WithCancelCause(t.Context())
			left, closed := make(chan struct{}), make(chan error, 1)
			hang := func(w http.ResponseWriter, _ *http.Request) {
				cancel(why)
				<-left
				closed <- upgradeUntilClosed(w)
			}
			a := &api{answers: map[string]http.HandlerFunc{
				"GET /containers/c/json":    say(`{"Id":"c","Name":"/c"}`),
				"POST /containers/c/exec":   say(`{"Id":"e"}`),
				"POST /exec/e/start":        hang,
				"POST /containers/c/attach": hang,
			}}
			h := &handle{runtime: a.serve(t, Options{}), id: "c", name: "c"}
			returned := make(chan error, 1)
			go func() { returned <- call(ctx, h) }()
			select {
			case err := <-returned:
				if !errors.Is(err, why) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("it waits for the engine")
			}
			close(left)
			if err := <-closed; err != nil {
				t.Errorf("the stream that came late is not closed: %v", err)
			}
		})
	}
}

// upgradeUntilClosed answers with a stream, and returns nil when the client has closed it.
func upgradeUntilClosed(w http.ResponseWriter) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	deadlineErr := conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, writeErr := buffered.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	err = errors.Join(deadlineErr, writeErr, buffered.Flush())
	_, readErr := io.Copy(io.Discard, buffered)
	return errors.Join(err, readErr, conn.Close())
}
