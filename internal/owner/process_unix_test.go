//go:build unix

package owner_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/owner"
)

// helperEnv makes the test binary another process, perhaps of another user: its value is one of the modes of helper.
const helperEnv = "DALIRUN_OWNER_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		if err := helper(mode, os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper(mode string, workspaces []string) error {
	switch mode {
	case "run": // until killed
		if _, err := owner.Acquire(workspaces[0], "r1"); err != nil {
			return err
		}
		fmt.Println("living")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "judge":
		for _, w := range workspaces {
			batch, why := owner.Verdict(labels(w, container.RoleBatch), thisHost())
			server, why2 := owner.Verdict(labels(w, container.RoleServer), thisHost())
			fmt.Printf("%s %s, because %s; %s\n", batch, server, why, why2)
		}
		return nil
	case "whose":
		for _, w := range workspaces {
			name, err := owner.OtherUser(w, "r1")
			fmt.Printf("%q, %v\n", name, err)
		}
		return nil
	}
	return fmt.Errorf("no mode %q", mode)
}

func command(t *testing.T, mode, binary string, workspaces ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, workspaces...)
	cmd.Env = append(os.Environ(), helperEnv+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

func wantKilled(t *testing.T, workspace string, want ...string) {
	t.Helper()
	if got := owner.Killed(workspace); !slices.Equal(got, want) {
		t.Errorf("%v were killed instead of %v", got, want)
	}
}

func TestKilledRun(t *testing.T) {
	t.Parallel()
	w := workspace(t)
	cmd := command(t, "run", os.Args[0], w)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	t.Cleanup(func() { _ = stdin.Close() }) // the process is gone by then
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "living\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	for range 3 {
		wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Kept, "r1 lives")
	}
	wantKilled(t, w)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Orphaned, "r1 was killed")
	wantVerdict(t, labels(w, container.RoleServer), thisHost(), owner.Orphaned, "r1 was killed")
	wantKilled(t, w, "r1")
	must(t, acquire(t, w, "r1").Release())
	wantKilled(t, w)
	wantVerdict(t, labels(w, container.RoleBatch), thisHost(), owner.Orphaned, "r1 is gone")
}

// TestAnotherUser sees that a user who may not look does not judge. Root may look anywhere, so only root can start this test.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can start a process of another user")
	}
	// The test binary and the workspaces lie in folders that are root's alone: the binary goes to one that is everybody's.
	open, err := os.MkdirTemp("/tmp", "dalirun owner ") //nolint:usetesting // t.TempDir is the caller's alone
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(open)) })
	must(t, os.Chmod(open, 0o755))
	binary := filepath.Join(open, "helper")
	content, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(binary, content, 0o755))

	folder := func(name string, mode os.FileMode) string {
		dir := filepath.Join(open, name)
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.Chmod(dir, mode))
		return dir
	}
	var workspaces, want, whose []string
	add := func(workspace string, batch, server owner.State) {
		workspaces = append(workspaces, workspace)
		want = append(want, fmt.Sprintf("%s %s, ", batch, server))
		whose = append(whose, `"root", <nil>`)
	}

	// Closed: it cannot even be known whether there is a lock.
	add(folder("closed", 0o700), owner.Unknown, owner.Unknown)
	// The run has ended, but its folder is closed.
	hidden := folder("hidden run", 0o755)
	folder("hidden run/runs", 0o755)
	must(t, acquire(t, hidden, "r1").Release())
	add(hidden, owner.Unknown, owner.Unknown)
	// The lock can be seen, but not opened.
	shut := folder("shut lock", 0o755)
	folder("shut lock/runs", 0o755)
	held := acquire(t, shut, "r1")
	t.Cleanup(func() { must(t, held.Release()) })
	folder("shut lock/runs/r1", 0o755)
	add(shut, owner.Unknown, owner.Unknown)
	// The run is gone, but the server file cannot be read.
	file := folder("shut server file", 0o755)
	must(t, owner.WriteServer(file, server()))
	must(t, os.RemoveAll(filepath.Join(file, "runs")))
	add(file, owner.Orphaned, owner.Unknown)
	// Their own workspace, in which nothing is root's.
	usersOwn := folder("own 模型", 0o700)
	must(t, os.Chown(usersOwn, 10001, 10001))
	add(usersOwn, owner.Orphaned, owner.Orphaned)
	whose[len(whose)-1] = `"", <nil>`

	for mode, lines := range map[string][]string{"judge": want, "whose": whose} {
		cmd := command(t, mode, binary, workspaces...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 10001, Gid: 10001}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", mode, err, out)
		}
		got := strings.Split(strings.TrimSpace(string(out)), "\n")
		for i, w := range workspaces {
			if i >= len(got) || !strings.HasPrefix(got[i], lines[i]) {
				t.Errorf("%s: %s: it says %q instead of %q", mode, w, got, lines[i])
			}
		}
	}
}
