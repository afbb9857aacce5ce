package serving

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// quick watches a server that answers at once.
func quick() Watch {
	return Watch{Probe: Probe{Reply: 2 * time.Second, Within: 2 * time.Second}, Every: time.Millisecond, Again: time.Millisecond, InARow: 2}
}

// idle asks nothing before a test has ended.
func idle() Watch { return Watch{Every: time.Hour, InARow: 1} }

func noWarning(t *testing.T) func(string) {
	t.Helper()
	return func(text string) { t.Errorf("a warning: %s", text) }
}

// A foreground server that does not work any more is told of, and killed if it has nothing to drain.
func TestAttend(t *testing.T) {
	t.Parallel()
	server := func(addr string) owner.ServerFile {
		return owner.ServerFile{Container: "id", Name: "server", GRPC: addr, Command: []string{"serve", "--accel=cpu"}}
	}
	t.Run("failing", func(t *testing.T) {
		t.Parallel()
		e := &engine{all: []container.Summary{serverIn("/w", "")}}
		err := serversOn(e).Attend(t.Context(), server(broken(t)), quick(), noWarning(t))
		wantFault(t, err, pipeline.NotReady, "the server server is not healthy: "+ensemble+": "+deadStub,
			"`dalirun serve --accel=cpu` starts it again")
		if diff := cmp.Diff([]string{"stop id within 0s"}, e.noted()); diff != "" {
			t.Error(diff)
		}
	})
	outOfMemory := map[string]container.Exit{"id": {Code: 137, OOM: true}}
	t.Run("it ended", func(t *testing.T) {
		t.Parallel()
		e := &engine{all: []container.Summary{serverIn("/w", "")}, exit: outOfMemory}
		err := serversOn(e).Attend(t.Context(), server(closed(t)), idle(), noWarning(t))
		wantFault(t, err, pipeline.NotReady, "tritonserver was killed for memory", "")
	})
	t.Run("it ended, which the watch sees first", func(t *testing.T) {
		t.Parallel()
		ended, listed := serverIn("/w", ""), make(chan struct{})
		ended.Running = false
		e := &engine{all: []container.Summary{ended}, exit: outOfMemory, ends: listed, onList: func() { close(listed) }}
		err := serversOn(e).Attend(t.Context(), server(closed(t)), quick(), noWarning(t))
		wantFault(t, err, pipeline.NotReady, "tritonserver was killed for memory", "")
	})
	t.Run("it is stopped", func(t *testing.T) {
		t.Parallel()
		if err := serversOn(&engine{}).Attend(t.Context(), server(closed(t)), idle(), noWarning(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a signal, watched as usual", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", "")}}
		if err := serversOn(e).Attend(ctx, server(answering(t)), Watch{}, noWarning(t)); err != nil || len(e.noted()) > 0 {
			t.Errorf("%v, %q", err, e.noted())
		}
	})
	t.Run("a signal, and it works", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", "")}}
		if err := serversOn(e).Attend(ctx, server(answering(t)), idle(), noWarning(t)); err != nil || len(e.noted()) > 0 {
			t.Errorf("%v, %q", err, e.noted())
		}
	})
	t.Run("a signal, and it has nothing to drain", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &engine{all: []container.Summary{serverIn("/w", "")}}
		err := serversOn(e).Attend(ctx, server(broken(t)), idle(), noWarning(t))
		if diff := cmp.Diff([]string{"stop id within 0s"}, e.noted()); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

// That a server is not watched any more is told of, and the server stays.
func TestAttendWithoutWatch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e := &engine{all: []container.Summary{serverIn("/w", "")}}
	var told string
	err := serversOn(e).Attend(ctx, owner.ServerFile{Container: "id", GRPC: "no:such:address\x00"}, quick(), func(text string) {
		told = text
		cancel()
	})
	if !strings.HasPrefix(told, "whether the server is healthy is not watched any more: ") || len(e.noted()) > 0 {
		t.Errorf("%q, %v, %q", told, err, e.noted())
	}
}

// How a server ended says whether that was in good order.
func TestWaitForEnd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		exit    container.Exit
		removed time.Duration // after it ended; 0 is never
		gone    bool          // before anybody waits
		words   string
	}{
		"it is gone":                      {gone: true},
		"it drained":                      {},
		"for memory":                      {exit: container.Exit{Code: 137, OOM: true}, words: "tritonserver was killed for memory"},
		"with 1":                          {exit: container.Exit{Code: 1}, words: "tritonserver exited with status 1"},
		"with 1, and somebody removes it": {exit: container.Exit{Code: 1}, removed: removedWithin - time.Second/2},
		"with 1, and it is removed later": {exit: container.Exit{Code: 1}, removed: removedWithin + time.Second/2, words: "exited with status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := &engine{all: []container.Summary{serverIn("/w", "")}, exit: map[string]container.Exit{"id": tt.exit}}
				if tt.gone {
					e.drop("id")
				}
				if tt.removed > 0 {
					defer time.AfterFunc(tt.removed, func() { e.drop("id") }).Stop()
				}
				err := waitForEnd(t.Context(), e, "id")
				if tt.words == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantFault(t, err, pipeline.NotReady, tt.words, "")
			})
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("Ctrl-C"))
	if err := waitForEnd(ctx, &engine{all: []container.Summary{serverIn("/w", "")}}, "id"); err != nil {
		t.Errorf("it was asked to stop: %v", err)
	}
}
