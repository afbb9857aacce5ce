package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
)

// notifySocket is the socket of a service manager, and its path. That must be in the environment of the process, which
// the library reads.
func notifySocket(t *testing.T) (socket *net.UnixConn, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dalirun-") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "notify")
	socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return socket, path
}

// wantMessage reads the next message to a service manager that is none of its watchdog's.
func wantMessage(t *testing.T, socket *net.UnixConn, pattern string) {
	t.Helper()
	buffer := make([]byte, 4096)
	for {
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buffer)
		if err != nil {
			t.Fatalf("wait for a message: %v", err)
		}
		text := string(buffer[:n])
		if text == "WATCHDOG=1" {
			continue
		}
		if !regexp.MustCompile(`^` + pattern + `$`).MatchString(text) {
			t.Fatalf("%q is told, not %s", text, pattern)
		}
		return
	}
}

// unit is a `dalirun serve` that a service manager started.
type unit struct {
	env       map[string]string
	workspace string
	stop      context.CancelCauseFunc
	code      chan ExitCode
	stdout    *watcher // of the line that says where the server is
	stderr    bytes.Buffer
}

func startUnit(t *testing.T, w world, args ...string) *unit {
	t.Helper()
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	u := &unit{
		env:       map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir, "NOTIFY_SOCKET": os.Getenv("NOTIFY_SOCKET")},
		workspace: filepath.Join(dir, "w"), code: make(chan ExitCode, 1),
		stdout: &watcher{word: "ready: grpc", seen: make(chan struct{})},
	}
	var ctx context.Context
	ctx, u.stop = context.WithCancelCause(t.Context())
	args = append([]string{"serve", "--accel", "cpu", "--weights", "random:0", "--workspace", u.workspace}, args...)
	go func() { u.code <- appIn(u.env, u.stdout, &u.stderr).Run(ctx, args) }()
	return u
}

// ends waits for the end.
func (u *unit) ends(t *testing.T, want ExitCode) {
	t.Helper()
	if code := <-u.code; code != want {
		t.Errorf("exit code %d, not %d\n%s", code, want, u.stderr.String())
	}
}

const (
	toldReady    = `READY=1\nSTATUS=serving, grpc 127\.0\.0\.1:\d+`
	toldStopping = `STOPPING=1\nSTATUS=letting requests in flight end\nEXTEND_TIMEOUT_USEC=50000000`
)

// systemd is told when the server is ready, for how long a reload is at work, that dalirun is alive, and that it stops.
func TestNotify(t *testing.T) {
	socket, path := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	w, _ := worlds(t, "stocked")
	u := startUnit(t, w)
	wantMessage(t, socket, toldReady)
	lock, err := serving.LockReload(t.Context(), u.workspace)
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, socket, `RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=replacing the models`)
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, socket, toldReady)
	buffer := make([]byte, 4096)
	for range 3 {
		n, err := socket.Read(buffer)
		if err != nil || string(buffer[:n]) != "WATCHDOG=1" {
			t.Fatalf("%q is told, %v", buffer[:n], err)
		}
	}
	u.stop(&SignalError{Signal: syscall.SIGTERM})
	wantMessage(t, socket, toldStopping)
	u.ends(t, ExitOK)
	if err := socket.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := socket.Read(buffer); err == nil {
		t.Errorf("%q is told after the stop", buffer[:n])
	}
}

// A `dalirun stop` is told of as a signal is.
func TestNotifyOfStop(t *testing.T) {
	socket, path := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", path)
	w, _ := worlds(t, "stocked")
	u := startUnit(t, w)
	wantMessage(t, socket, toldReady)
	var out bytes.Buffer
	if code := appIn(u.env, &out, &out).Run(t.Context(), []string{"stop", "--workspace", u.workspace}); code != ExitOK {
		t.Errorf("stop: exit code %d\n%s", code, &out)
	}
	wantMessage(t, socket, toldStopping)
	u.ends(t, ExitOK)
}

// A run that is stopped before it serves was never ready.
func TestNotifyOfStopBeforeReady(t *testing.T) {
	socket, path := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", path)
	w, _ := worlds(t, "stocked")
	w.hangs, w.begun = "export_onnx.py", make(chan struct{})
	u := startUnit(t, w)
	<-w.begun
	u.stop(&SignalError{Signal: syscall.SIGTERM})
	wantMessage(t, socket, toldStopping)
	u.ends(t, ExitSIGTERM)
}

// Nobody attends a detached server, so that no service manager is told of it.
func TestNotifyOfDetached(t *testing.T) {
	socket, path := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", path)
	w, _ := worlds(t, "stocked")
	startUnit(t, w, "--detach").ends(t, ExitOK)
	if err := socket.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	if n, err := socket.Read(buffer); err == nil {
		t.Errorf("%q is told", buffer[:n])
	}
}

// A service manager that reads nothing holds nothing up.
func TestNotifyFullSocket(t *testing.T) {
	_, path := notifySocket(t)
	t.Setenv("NOTIFY_SOCKET", path)
	to, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close() //nolint:errcheck // nothing is lost
	for err == nil {
		if err := to.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err = to.Write([]byte("WATCHDOG=1"))
	}
	var warnings []string
	a := appIn(map[string]string{"NOTIFY_SOCKET": path}, io.Discard, io.Discard)
	m := a.serviceManager(func(text string) { warnings = append(warnings, text) })
	m.enter(t.Context(), serving.PhaseServing, owner.ServerFile{})
	m.enter(t.Context(), serving.PhaseStopping, owner.ServerFile{})
	want := []string{"the service manager at NOTIFY_SOCKET=" + path + " is not told how the server is: it takes no message within 1s; " +
		"unset it where there is none"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A service manager that cannot be told is warned of once, and the server serves.
func TestNotifyNobody(t *testing.T) {
	for name, socket := range map[string]string{
		"nobody listens": filepath.Join(t.TempDir(), "none"), "no path": "vsock:2:1234", "too long": "/" + strings.Repeat("long", 100),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", socket)
			t.Setenv("WATCHDOG_USEC", "soon")
			w, _ := worlds(t, "stocked")
			u := startUnit(t, w)
			<-u.stdout.seen
			u.stop(&SignalError{Signal: syscall.SIGTERM})
			u.ends(t, ExitOK)
			for _, want := range []string{
				fmt.Sprintf("WARN the service manager at NOTIFY_SOCKET=%s is not told how the server is: ", socket),
				"WARN the service manager's watchdog is not told that dalirun is alive: ",
			} {
				if n := strings.Count(u.stderr.String(), want); n != 1 {
					t.Errorf("%q is said %d times:\n%s", want, n, u.stderr.String())
				}
			}
		})
	}
}

// The unit of the documents is one that systemd understands, with commands that there are and codes that mean what it says.
func TestUnit(t *testing.T) {
	t.Parallel()
	verifier, err := exec.LookPath("systemd-analyze")
	if err != nil {
		needtest.Missing(t, "systemd-analyze: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(docsDir, "systemd", "dalirun.service"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable() // which is there, other than what the unit names
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	here := strings.ReplaceAll(text, "/usr/local/bin/dalirun ", program+" ")
	if said := verifyUnit(t, verifier, here); said != "" {
		t.Errorf("systemd-analyze says:\n%s", said)
	}
	for right, wrong := range map[string]string{ // the negative controls
		"WatchdogSec=60": "WatchdogSex=60", "TimeoutStopSec=60": "TimeoutStopSec=soon", program: "/nothing/dalirun",
	} {
		if verifyUnit(t, verifier, strings.Replace(here, right, wrong, 1)) == "" {
			t.Errorf("systemd-analyze says nothing of %s", wrong)
		}
	}
	for _, name := range []string{"ExecStart", "ExecReload"} {
		command := regexp.MustCompile(`(?m)^` + name + `=/usr/local/bin/dalirun (.*)$`).FindStringSubmatch(text)
		if command == nil {
			t.Fatalf("no %s= runs dalirun", name)
		}
		if err := refusal(strings.Fields(command[1])); err != nil {
			t.Errorf("%s: %v", command[0], err)
		}
	}
	for _, line := range []string{
		fmt.Sprintf("RestartPreventExitStatus=%d %d", ExitUsage, ExitEnvironment), fmt.Sprintf("SuccessExitStatus=%d", ExitSIGTERM),
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(text)
	if stop == nil {
		t.Fatal("no TimeoutStopSec=")
	}
	if seconds, err := strconv.Atoi(stop[1]); err != nil || time.Duration(seconds)*time.Second <= stopsWithin {
		t.Errorf("a stop may take %s, and %s", stopsWithin, stop[0])
	}
}

// verifyUnit returns what systemd-analyze says of a unit, beside one of Docker: not each machine has that.
func verifyUnit(t *testing.T, verifier, text string) string {
	t.Helper()
	dir := t.TempDir()
	unit := filepath.Join(dir, "dalirun.service")
	for path, text := range map[string]string{
		unit: text, filepath.Join(dir, "docker.service"): "[Service]\nExecStart=/bin/true\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), verifier, "verify", "--man=no", unit)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":") // and then the usual folders
	said, err := cmd.CombinedOutput()
	var of []string
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "dalirun.service") { // it says of the machine's own units, too, what it does not like
			of = append(of, line)
		}
	}
	if err != nil && len(of) == 0 {
		return err.Error() + "\n" + string(said)
	}
	return strings.Join(of, "")
}
