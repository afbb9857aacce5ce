package host

import (
	"context"
	"os/exec"
	"time"
)

// Command runs a program of this host. It is a [Runner].
func Command(ctx context.Context, argv ...string) ([]byte, error) {
	//nolint:gosec // the programs are named in this package, not by a user
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	killChildren(cmd)
	// A child that inherited the pipe would keep it open after the program was killed.
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
