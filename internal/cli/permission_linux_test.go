package cli

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A socket that this user may not open gets its own sentence: another start of the container engine would not help.
func TestPermissionDenied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Another user must get as far as the socket.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	// The program is this test's own, wherever it lies: TestMain looks at the name that it is called by.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "setup", "--accel", "cpu", "--weights", "random:0")
	cmd.Args[0] = "dalirun"
	cmd.Dir = dir
	cmd.Env = []string{"DOCKER_HOST=unix://" + socket, "HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
	if os.Getuid() == 0 { // whom nothing is forbidden
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := ExitCode(cmd.ProcessState.ExitCode()); got != ExitEnvironment {
		t.Errorf("exit code %d, want %d", got, ExitEnvironment)
	}
	for _, want := range []string{"permission denied", socket, "usermod -aG docker"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr.String())
		}
	}
	if strings.Contains(stderr.String(), "install") {
		t.Errorf("stderr speaks of installing:\n%s", stderr.String())
	}
}
