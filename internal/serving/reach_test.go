package serving

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// hostThat is a host to which no connection is made.
type hostThat func(ctx context.Context) error

func (hostThat) Name() string { return "host" }

func (h hostThat) Dial(ctx context.Context, _ uint16) (net.Conn, error) { return nil, h(ctx) }

// away is the error of a container engine that does not answer.
func away() error { return fmt.Errorf("open id: %w", container.ErrUnreachable) }

// A slow container engine is no fault of the server, and is asked for the server's container once.
func TestAttendWithASlowEngine(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked, opened atomic.Int64
	server := tritontest.New(t, tritontest.Classifier(ensemble, []string{"a", "b"}, func([]byte) ([]float32, error) {
		if asked.Add(1) == 5 {
			cancel()
		}
		return []float32{1, 2}, nil
	}))
	server.MustLoad(ensemble)
	w := quick()
	w.Probe.Reply = 200 * time.Millisecond
	e := &engine{all: []container.Summary{serverIn("/w", server.Addr())}, onOpen: func(ctx context.Context) error {
		opened.Add(1)
		select {
		case <-time.After(2 * w.Probe.Reply):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
	err := serversOn(e).Attend(ctx, "/w", owner.ServerFile{Container: "id", Name: "server"}, w, Supervision{}, noWarning(t))
	if err != nil || len(e.noted()) > 0 || asked.Load() < 5 {
		t.Errorf("%v, %q after %d inferences", err, e.noted(), asked.Load())
	}
	if n := opened.Load(); n != 2 { // by the watch, and to wait for the end
		t.Errorf("the container was opened %d times", n)
	}
}

// An error of the container engine is no verdict on the server; one of the connection is.
func TestJudgeUnreached(t *testing.T) {
	t.Parallel()
	hangs := func(ctx context.Context) error { <-ctx.Done(); return os.ErrDeadlineExceeded }
	for name, tt := range map[string]struct {
		dial hostThat
		want Health
	}{
		"away":  {func(context.Context) error { return away() }, Health{State: NotJudged, Reason: "open id: container engine does not answer"}},
		"hangs": {hangs, Health{State: NotJudged, Reason: "container engine does not answer: no connection to the server within 20s"}},
		"forbidden": {
			func(context.Context) error { return container.ErrPermission }, Health{State: NotJudged, Reason: "permission denied"},
		},
		"refused": {
			func(context.Context) error { return errors.New("connection refused") },
			Health{State: Silent, Reason: "it cannot be reached: connection refused"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got, err := Probe{Reply: time.Second, Within: time.Second}.Judge(t.Context(), tt.dial)
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

// A watch asks an engine again that does not answer, as often as it takes.
func TestWatchWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	dials := 0
	w := quick()
	h, err := w.Wait(t.Context(), hostThat(func(context.Context) error {
		if dials++; dials <= 5 {
			return away()
		}
		return errors.New("connection refused")
	}))
	if err != nil || h.State != Silent || dials != 5+w.InARow {
		t.Errorf("%+v, %v after %d connections", h, err, dials)
	}
}

// What cannot be judged is neither blamed, nor mended, nor ended at once.
func TestNothingIsDoneToWhatIsNotJudged(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	detached(t, w)
	if err := os.MkdirAll(owner.RunDir(w, "r1"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := serverIn(w, answering(t))
	e := &engine{all: []container.Summary{c}, onOpen: func(context.Context) error { return away() }}
	s := serversOn(e)
	want := Health{State: NotJudged, Reason: away().Error()}
	got, err := s.Judge(t.Context(), Container{Summary: c})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if word := got.String(); word != "unknown: "+want.Reason {
		t.Error(word)
	}
	failed := pipeline.Faultf(pipeline.NotReady, "do that", "it failed")
	if err := s.WithHealth(t.Context(), c.Ports[8001].String(), failed); !errors.Is(err, failed) || pipeline.HintOf(err) != "do that" {
		t.Errorf("%v (hint: %s)", err, pipeline.HintOf(err))
	}
	_, err = s.Lock(t.Context(), w)
	if err == nil || !strings.Contains(err.Error(), "has a server already") || strings.Contains(err.Error(), "unknown") || pipeline.HintOf(err) == "" {
		t.Errorf("%v (hint: %s)", err, pipeline.HintOf(err))
	}
	var opened atomic.Int64
	e.onOpen = func(context.Context) error {
		if opened.Add(1) == 1 { // to stop it
			return nil
		}
		return away()
	}
	observer := StopObserver{
		Dead:    func(name string, h Health) { t.Errorf("%s is dead: %s", name, h) },
		Stopped: func(string) {},
	}
	if _, err := s.Stop(t.Context(), w, observer); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"stop id within " + grace.String(), "remove id"}, e.noted()); diff != "" {
		t.Error(diff)
	}
}
