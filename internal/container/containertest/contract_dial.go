package containertest

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// TestDial runs the contract of Dial of [container.Container]. It calls newEnv once for each of its tests, which run in
// parallel.
func TestDial(t *testing.T, newEnv func(t *testing.T) Env) { //nolint:tparallel // its caller says so of t
	t.Helper()
	for name, test := range map[string]func(*testing.T, *suite){
		"both ways":           testDialBothWays,
		"several at a time":   testDialSeveral,
		"opened":              testDialOpened,
		"nobody listens":      testDialNobody,
		"what ended":          testDialWhatEnded,
		"cancelled":           testDialCancelled,
		"outlives its dial":   testDialOutlives,
		"end of the server's": testDialServerEnds,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{Env: newEnv(t)}
			t.Cleanup(func() { s.removeAll(t) })
			test(t, s)
		})
	}
}

// echo starts a server that sends back what it gets.
func (s *suite) echo(t *testing.T) (container.Container, *output) {
	t.Helper()
	spec := s.server(container.Port{Container: probePort})
	spec.Command = []string{"echo", itoa(probePort)}
	return s.ready(t, spec)
}

func dial(t *testing.T, c container.Container) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := c.Dial(ctx, probePort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends text and wants it back.
func exchange(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Errorf("sent %q, got %q, %v", text, got, err)
	}
}

func testDialBothWays(t *testing.T, s *suite) {
	t.Helper()
	c, out := s.echo(t)
	conn := dial(t, c)
	exchange(t, conn, "first")
	exchange(t, conn, "second")
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	out.await(t, "closed\n") // the server hears of it
}

// testDialSeveral holds that connections do not wait for each other, and that neither direction waits for the other.
func testDialSeveral(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.echo(t)
	idle := dial(t, c)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			conn := dial(t, c)
			var sending sync.WaitGroup
			sending.Go(func() {
				if _, err := conn.Write(big); err != nil {
					t.Error(err)
				}
			})
			got := make([]byte, len(big))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, big) {
				t.Errorf("of %d bytes others came back: %v", len(big), err)
			}
			sending.Wait()
		})
	}
	all.Wait()
	exchange(t, idle, "still there")
}

func testDialOpened(t *testing.T, s *suite) {
	t.Helper()
	started, _ := s.echo(t)
	c, err := s.Runner.Open(t.Context(), started.Name())
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, dial(t, c), "opened")
}

// wantNothing wants no connection, or one that breaks at once.
func wantNothing(t *testing.T, c container.Container, port uint16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := c.Dial(ctx, port)
	if err == nil {
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(conn); len(data) > 0 || isTimeout(err) {
			t.Errorf("port %d says %q, %v", port, data, err)
		}
		return
	}
	if text := err.Error(); !strings.Contains(text, itoa(int(port))) || !strings.Contains(text, c.Name()) {
		t.Errorf("the message does not name port %d of %s: %v", port, c.Name(), err)
	}
}

func isTimeout(err error) bool {
	late, ok := err.(net.Error) //nolint:errorlint // a connection's own
	return ok && late.Timeout()
}

func testDialNobody(t *testing.T, s *suite) {
	t.Helper()
	spec := s.server(container.Port{Container: probePort})
	spec.Publish = append(spec.Publish, container.Port{Container: 8002})
	spec.Command = []string{"echo", itoa(probePort)}
	c, _ := s.ready(t, spec)
	wantNothing(t, c, 8002) // published
	wantNothing(t, c, 9999) // not even that
	exchange(t, dial(t, c), "and another port is none the worse")
}

func testDialWhatEnded(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.echo(t)
	exchange(t, dial(t, c), "before")
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.wait(t, c)
	wantNothing(t, c, probePort)
	if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, c, probePort)
}

func testDialCancelled(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.echo(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if conn, err := c.Dial(ctx, probePort); err == nil {
		_ = conn.Close()
		t.Error("no error")
	}
}

func testDialOutlives(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.echo(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	conn, err := c.Dial(ctx, probePort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cancel()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	exchange(t, conn, "after the end of its context")
}

// testDialServerEnds holds that all that the server said arrives before its end does.
func testDialServerEnds(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.server(container.Port{Container: probePort}))
	for range 3 {
		if text, err := io.ReadAll(dial(t, c)); err != nil || string(text) != "hello" {
			t.Errorf("got %q, %v", text, err)
		}
	}
}
