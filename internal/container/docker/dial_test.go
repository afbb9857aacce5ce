package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/needtest"
)

// TestForwarder runs the real program, which the images of other tests have no Python for.
func TestForwarder(t *testing.T) {
	t.Parallel()
	server := echo(t)
	_, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	conn, stderr := forward(python(t, port))
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const text = "sent and back"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1+len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(connected)+text {
		t.Errorf("got %q, %v", got, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if words := <-stderr; words != "" {
		t.Errorf("it says %q", words)
	}
}

func TestForwarderToNobody(t *testing.T) {
	t.Parallel()
	conn, stderr := forward(python(t, "1")) // tcpmux, of RFC 1078
	if data, err := io.ReadAll(conn); err != nil || len(data) > 0 {
		t.Errorf("got %q, %v", data, err)
	}
	if words := <-stderr; !strings.Contains(words, "refused") {
		t.Errorf("it says %q", words)
	}
}

// echo starts a server that sends back what it gets, and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
	return l.Addr().String()
}

// python runs the forwarder as an engine does: one connection for stdin and the framed output. The test ends after it.
func python(t *testing.T, port string) types.HijackedResponse {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		needtest.Missing(t, "%v", err)
	}
	near, far := net.Pipe()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	cmd := exec.CommandContext(ctx, "python3", "-I", "-S", "-c", forwarder, port)
	cmd.Stdout, cmd.Stderr = stdcopy.NewStdWriter(far, stdcopy.Stdout), stdcopy.NewStdWriter(far, stdcopy.Stderr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(stdin, far)
		_ = stdin.Close()
	}()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = far.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		defer cancel()
		if err := <-ended; ctx.Err() != nil {
			t.Errorf("it did not end with its connection: %v", errors.Join(ctx.Err(), err))
		}
	})
	return types.NewHijackedResponse(near, "")
}

// The way that worked last may be none any more, as when this process's container left the engine's network.
func TestDialWithoutTheLastWay(t *testing.T) {
	t.Parallel()
	addr, there := echo(t), true
	vanishing := &way{"a way that vanishes", func(_ *handle, ctx context.Context, _ uint16) (net.Conn, error) {
		if !there {
			return nil, errNoWay
		}
		return dialTCP(ctx, addr)
	}}
	other := &way{"another way", func(*handle, context.Context, uint16) (net.Conn, error) { return nil, errNobody }}
	h := &handle{runtime: &Runtime{ways: []*way{vanishing, other}}, name: "c"}
	conn, err := h.Dial(t.Context(), 8001)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	there = false
	if _, err := h.Dial(t.Context(), 8001); !errors.Is(err, errNobody) || err.Error() != "dial c:8001: another way: nobody listens" {
		t.Errorf("got %v", err)
	}
	h.runtime.ways = []*way{vanishing}
	if _, err := h.Dial(t.Context(), 8001); err == nil || err.Error() != "dial c:8001: no way" {
		t.Errorf("got %v", err)
	}
}

func TestContainedIn(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0123456789abcdef", 4)
	line := func(root, point string) string {
		return "1 2 254:1 " + root + " " + point + " rw,relatime - ext4 /dev/vda1 rw\n"
	}
	for name, tt := range map[string]struct {
		mounts string
		want   self
	}{
		"a host":       {line("/", "/") + line("/", "/var/lib/docker/containers/"+id+"/mounts/shm"), self{}},
		"Docker":       {line("/", "/") + line("/var/lib/docker/containers/"+id+"/hostname", "/etc/hostname"), self{true, id}},
		"another root": {line("/data/docker/containers/"+id+"/resolv.conf", "/etc/resolv.conf"), self{true, id}},
		"Podman":       {line("/containers/overlay-containers/"+id+"/userdata/hosts", "/etc/hosts"), self{true, id}},
		"Kubernetes":   {line("/var/lib/kubelet/pods/7c6f/etc-hosts", "/etc/hosts"), self{true, ""}},
		"nothing":      {"", self{}},
		"no mountinfo": {"x\n\n", self{}},
	} {
		if got := containedIn(tt.mounts); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

// TestStandpoint plays what is found out of an engine that is here and of one that is not.
func TestStandpoint(t *testing.T) {
	t.Parallel()
	a := &api{}
	r := a.serve(t, Options{})
	if info, err := r.Info(t.Context()); err != nil || info.OtherLoopback {
		t.Errorf("an engine of this process's network: %+v, %v", info, err)
	}
	r = a.serve(t, Options{})
	r.remote = true
	if info, err := r.Info(t.Context()); err != nil || !info.OtherLoopback {
		t.Errorf("an engine of another host: %+v, %v", info, err)
	}
	socket, _ := strings.CutPrefix(r.endpoint, "unix://")
	if pid, err := listener(t.Context(), socket); pid != os.Getpid() && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("process %s listens on the socket, not %d (%v)", strconv.Itoa(os.Getpid()), pid, err)
	}
}
