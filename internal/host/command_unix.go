//go:build unix

package host

import (
	"os/exec"
	"syscall"
)

// killChildren has the end of the context end the program's children too: what they hold open would outlive us.
func killChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
