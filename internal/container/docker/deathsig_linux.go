package docker

import (
	"os/exec"
	"syscall"
)

// endWithParent ends a program with this process, however that ends.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL }
