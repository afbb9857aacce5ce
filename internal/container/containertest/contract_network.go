package containertest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// probePort is where the suite's servers listen inside their containers.
const probePort = 8001

func testNetworkNone(t *testing.T, s *suite) {
	t.Helper()
	if got := s.succeed(t, s.spec("interfaces")); got != "" {
		t.Errorf("interfaces besides loopback: %q", got)
	}
}

func (s *suite) server(port container.Port) container.Spec {
	spec := s.spec("serve", itoa(int(port.Container)), "hello")
	spec.Network, spec.Publish = container.NetworkPublish, []container.Port{port}
	return spec
}

// readGreeting dials the published port of a server and returns what it sends. Docker's proxy takes a connection before
// it has reached the container, and closes it without a word where the container's address was another one's just
// before: such a connection is made again.
func readGreeting(ctx context.Context, t *testing.T, c container.Container) (netip.AddrPort, string) {
	t.Helper()
	addr, err := c.Addr(ctx, probePort)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		text, err := readAll(ctx, addr)
		if err != nil {
			t.Fatal(err)
		}
		if text != "" {
			return addr, text
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return addr, ""
		}
	}
}

// readAll returns what is sent to who connects to an address and says nothing.
func readAll(ctx context.Context, addr netip.AddrPort) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	text, err := io.ReadAll(conn)
	return string(text), err
}

func testNetworkPublish(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.server(container.Port{Container: probePort}))
	addr, text := readGreeting(t.Context(), t, c)
	if text != "hello" || !addr.Addr().IsLoopback() {
		t.Errorf("%s says %q", addr, text)
	}
	if _, err := c.Addr(t.Context(), 9999); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("a port that is not published: %v", err)
	}
	rows := s.remaining(t.Context(), t)
	if len(rows) != 1 || rows[0].Ports[probePort] != addr {
		t.Errorf("list says %+v, want it at %s", rows, addr)
	}
}

// testPublishNeighbours holds that ports which follow each other, inside and outside, are all listed.
func testPublishNeighbours(t *testing.T, s *suite) {
	t.Helper()
	first := freePort(t)
	for ; !isFree(t, first+1) || !isFree(t, first+2); first = freePort(t) {
		t.Logf("ports behind %d are taken", first)
	}
	spec := s.server(container.Port{Container: probePort, Host: first})
	for i := range uint16(2) {
		spec.Publish = append(spec.Publish, container.Port{Container: probePort + 1 + i, Host: first + 1 + i})
	}
	c, _ := s.ready(t, spec)
	rows := s.remaining(t.Context(), t)
	for i := range uint16(3) {
		addr, err := c.Addr(t.Context(), probePort+i)
		if err != nil || len(rows) != 1 || rows[0].Ports[probePort+i] != addr {
			t.Errorf("port %d is at %s, %v, and the list says %+v", probePort+i, addr, err, rows)
		}
	}
}

func isFree(t *testing.T, port uint16) bool {
	t.Helper()
	l, err := listen(t.Context(), container.Port{}.HostAddress(), port)
	if err != nil {
		return false
	}
	_ = l.Close() // nobody has connected
	return true
}

// testPublishElsewhere publishes on another address than the usual one, which a port of the same number there leaves
// alone.
func testPublishElsewhere(t *testing.T, s *suite) {
	t.Helper()
	second := netip.MustParseAddr("127.0.0.2")
	taken := takenPort(t)
	c, _ := s.ready(t, s.server(container.Port{Container: probePort, Address: second, Host: taken, Required: true}))
	if addr, text := readGreeting(t.Context(), t, c); text != "hello" || addr != netip.AddrPortFrom(second, taken) {
		t.Errorf("%s says %q, want port %d of %s", addr, text, taken, second)
	}
}

// testPublishEverywhere holds that a port of all addresses is listed as one, and reached on the loopback address.
func testPublishEverywhere(t *testing.T, s *suite) {
	t.Helper()
	everywhere := netip.IPv4Unspecified()
	c, _ := s.ready(t, s.server(container.Port{Container: probePort, Address: everywhere}))
	addr, text := readGreeting(t.Context(), t, c)
	if text != "hello" || !addr.Addr().IsLoopback() {
		t.Errorf("%s says %q", addr, text)
	}
	rows := s.remaining(t.Context(), t)
	if want := netip.AddrPortFrom(everywhere, addr.Port()); len(rows) != 1 || rows[0].Ports[probePort] != want {
		t.Errorf("list says %+v, want it at %s", rows, want)
	}
}

func testPublishWithoutNetwork(t *testing.T, s *suite) {
	t.Helper()
	spec := s.server(container.Port{Container: probePort})
	spec.Network = container.NetworkNone
	if _, err := s.Runner.Run(t.Context(), spec, container.Streams{}); err == nil {
		t.Error("no error")
	}
	s.wantNothingLeft(t)
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := listen(t.Context(), container.Port{}.HostAddress(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func testPreferredPort(t *testing.T, s *suite) {
	t.Helper()
	want := freePort(t)
	c, _ := s.ready(t, s.server(container.Port{Container: probePort, Host: want, Required: true}))
	if addr, text := readGreeting(t.Context(), t, c); addr.Port() != want || text != "hello" {
		t.Errorf("%s says %q, want port %d", addr, text, want)
	}
}

func takenPort(t *testing.T) uint16 {
	t.Helper()
	l, err := listen(t.Context(), container.Port{}.HostAddress(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func testTakenPort(t *testing.T, s *suite) {
	t.Helper()
	taken := takenPort(t)
	c, _ := s.ready(t, s.server(container.Port{Container: probePort, Host: taken}))
	if addr, text := readGreeting(t.Context(), t, c); addr.Port() == taken || text != "hello" {
		t.Errorf("%s says %q", addr, text)
	}
	if rows := s.remaining(t.Context(), t); len(rows) != 1 {
		t.Errorf("the first try is still there: %+v", rows)
	}
	first, err := c.Addr(t.Context(), probePort)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := s.ready(t, s.server(container.Port{Container: probePort, Host: first.Port()}))
	if addr, text := readGreeting(t.Context(), t, second); addr == first || text != "hello" {
		t.Errorf("second at %s says %q", addr, text)
	}
}

func testRequiredPort(t *testing.T, s *suite) {
	t.Helper()
	taken := takenPort(t)
	spec := s.server(container.Port{Container: probePort, Host: taken, Required: true})
	spec.Publish = append(spec.Publish, container.Port{Container: 8002, Host: takenPort(t)})
	_, err := s.Runner.Run(t.Context(), spec, container.Streams{})
	if !errors.Is(err, container.ErrPortTaken) {
		t.Errorf("got %v", err)
	} else if !strings.Contains(err.Error(), itoa(int(taken))) {
		t.Errorf("the message does not name port %d: %v", taken, err)
	}
	s.wantNothingLeft(t)
}

// testOwnPort holds that a port that is preferred alone gives way to one of the same container that requires it.
func testOwnPort(t *testing.T, s *suite) {
	t.Helper()
	want := freePort(t)
	for _, first := range []bool{true, false} {
		spec := s.server(container.Port{Container: probePort, Host: want, Required: true})
		spec.Publish = append(spec.Publish, container.Port{Container: 8002, Host: want})
		if !first {
			slices.Reverse(spec.Publish)
		}
		c, _ := s.ready(t, spec)
		if addr, text := readGreeting(t.Context(), t, c); addr.Port() != want || text != "hello" {
			t.Errorf("%s says %q, want port %d", addr, text, want)
		}
		if other, err := c.Addr(t.Context(), 8002); err != nil || other.Port() == want || other.Port() == 0 {
			t.Errorf("the other port is at %s, %v", other, err)
		}
		if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
	}
}
