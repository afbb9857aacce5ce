package cli

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/owner"
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

	doctor := exec.CommandContext(t.Context(), "/proc/self/exe", "doctor", "--accel", "cpu", "--weights", "random:0")
	doctor.Args[0], doctor.Dir, doctor.Env, doctor.SysProcAttr = "dalirun", cmd.Dir, cmd.Env, cmd.SysProcAttr
	said, err := doctor.Output()
	if doctor.ProcessState == nil {
		t.Fatal(err)
	}
	if !matches(`^fail  container engine  permission denied [^\n]*\n {24}[^\n]*usermod -aG docker`, string(said)) || matches(`systemctl|install docker|this one is named by`, string(said)) {
		t.Errorf("doctor says:\n%s", said)
	}
}

// Who may talk to the container engine could remove another user's container, and not what belongs to it: nothing is done.
func TestStopOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can start a process of another user")
	}
	const nobody = 65534
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, leave := range map[string]func(workspace string) error{
		"a detached server": func(w string) error {
			return owner.WriteServer(w, owner.ServerFile{Container: "c", Run: "r1", Host: me.Host})
		},
		"a foreground server": func(w string) error { return os.MkdirAll(owner.RunDir(w, "r1"), 0o700) },
		"a workspace that nobody else may look into": func(w string) error {
			return errors.Join(os.MkdirAll(owner.RunDir(w, "r1"), 0o700), os.Chmod(w, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine := dockertest.New(t, &containertest.Fake{})
			dir := t.TempDir()
			workspace := filepath.Join(dir, ".dalirun")
			socket := strings.TrimPrefix(engine.Host(), "unix://")
			for _, err := range []error{
				os.Mkdir(workspace, 0o755), leave(workspace), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755),
				os.Chmod(filepath.Dir(socket), 0o755), os.Chmod(socket, 0o666),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			engine.Leave(container.Summary{Name: "theirs", Running: true, Labels: container.Labels{
				container.LabelRun: "r1", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
				container.LabelRole: string(container.RoleServer),
			}})
			home, err := os.MkdirTemp("", "dalirun-nobody") //nolint:usetesting // the caller's alone otherwise
			if err == nil {
				t.Cleanup(func() { _ = os.RemoveAll(home) })
				err = os.Chown(home, nobody, nobody)
			}
			if err != nil {
				t.Fatal(err)
			}
			dalirun := func(uid uint32, args ...string) (string, int) {
				cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
				cmd.Args[0] = "dalirun"
				cmd.Dir = dir
				cmd.Env = []string{"DOCKER_HOST=" + engine.Host(), "HOME=" + home, "GORACE=atexit_sleep_ms=0"}
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState == nil {
					t.Fatal(err)
				}
				return string(out), cmd.ProcessState.ExitCode()
			}
			stop := []string{"stop", "--workspace", workspace}
			said, code := dalirun(nobody, stop...)
			for _, want := range []string{"the server of " + workspace + " belongs to root: nothing is stopped", "hint: ask root to run `DOCKER_HOST=" + engine.Host() + " dalirun stop --workspace " + workspace + "`"} {
				if ExitCode(code) != ExitEnvironment || !strings.Contains(said, want) {
					t.Errorf("exit code %d; want %d and %q:\n%s", code, ExitEnvironment, want, said)
				}
			}
			if said, code := dalirun(nobody, "ps"); code != 0 || !strings.Contains(said, "theirs is not healthy: its gRPC port is not published; it belongs to root, whose `dalirun ps` says what mends it\n") ||
				strings.Contains(said, "dalirun stop") {
				t.Errorf("ps: exit code %d:\n%s", code, said)
			}
			if left := engine.Containers(); len(left) != 1 || !left[0].Running {
				t.Errorf("the server: %+v", left)
			}
			if said, code := dalirun(0, stop...); code != 0 || !strings.Contains(said, "stopped theirs") {
				t.Errorf("its own user: exit code %d:\n%s", code, said)
			}
		})
	}
}

// A file that is there and may not be read is the machine's, whatever it is for; one that is not there is named wrongly, as scripts show.
func TestFilesThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can start a process that may read less")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	locked, closed := filepath.Join(dir, "locked"), filepath.Join(dir, "closed.jpg")
	if err := errors.Join(os.Mkdir(locked, 0o700), os.WriteFile(closed, []byte("a picture"), 0o600)); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(locked, "file")
	const nobody = 65534
	for _, args := range [][]string{
		{"classify", closed},
		{"classify", inside},
		{"classify", "--labels", closed, "cat.jpg"},
		{"plan", "--image", closed},
		{"plan", "--weights", inside},
		{"plan", "--weights", closed},
		{"e2e", "--html", filepath.Join(dir, "report.html"), "--accel", "cpu", "--weights", "random:0"},
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
		cmd.Args[0], cmd.Dir = "dalirun", dir
		cmd.Env = []string{"DOCKER_HOST=unix://" + filepath.Join(dir, "no.sock"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || ExitCode(exit.ExitCode()) != ExitEnvironment ||
			!matches(`permission denied\n  hint: (let yourself read it: .ls -ld. of it and of its folders shows whose they are|name a file that you may write)`, string(out)) {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}
