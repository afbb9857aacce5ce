// Package mounttest lets a test have file systems that nobody else sees and that go with it: a disk that is full, one
// that is read-only, one that never answers. The Go runtime has several threads, so this process cannot leave its mount
// namespace: the test runs its own binary again, in a new one.
package mounttest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/needtest"
)

const refused = "this user may not mount a file system"

// Run runs a command in a mount namespace of its own and returns what it printed; unless this user is root, in a user
// namespace too. The test is skipped where that is not allowed, which fails it where CI is true.
func Run(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), refused) {
		needtest.Missing(t, "%s: %v %s", refused, err, out)
	}
	return string(out), err
}

// diskVariable names the folder of [OnDisk] in the process that has the disk.
const diskVariable = "DALIRUN_TEST_DISK"

// OnDisk runs test, in a process of its own, with a folder that is an empty file system in memory. Options are those of
// tmpfs(5), such as "size=64k". It is all that its test function does.
func OnDisk(t *testing.T, options string, test func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv(diskVariable); dir != "" {
		if err := Mount(dir, options); err != nil {
			t.Fatal(err)
		}
		test(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), diskVariable+"="+t.TempDir())
	if out, err := Run(t, cmd); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Silence puts a file system that never answers at a folder, in the namespace that Run made, as one of the network is
// whose server hangs: one of fuse(4) with nobody behind it. It answers everything with an error once it is closed.
func Silence(dir string) (io.Closer, error) {
	nobody, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	}
	if err == nil {
		err = syscall.Mount("silence", dir, "fuse", 0,
			fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", nobody.Fd()))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s: %w", refused, err)
	}
	return nobody, err
}

// Mount puts an empty file system in memory at a folder, in the namespace that Run made. Options are those of tmpfs(5),
// such as "size=1m".
func Mount(dir, options string) error {
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%s: %w", refused, err)
	}
	return err
}
