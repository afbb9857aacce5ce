//go:build !unix

package docker

import "os/exec"

// ownGroup does nothing: there are no groups.
func ownGroup(*exec.Cmd) {}

// terminateGroup ends the program alone, which cannot be asked.
func terminateGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may have ended

// killGroup ends the program alone.
func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may have ended
