package serving

import (
	"strings"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/shell"
)

// StopCommand is what stops the server of a workspace, from any folder.
func StopCommand(workspace string) string {
	return shell.Line("dalirun", "stop", "--workspace", workspace)
}

// Mend is the command that makes a server of a workspace healthy again: it is stopped, and started as it was.
func Mend(workspace string, s owner.ServerFile) string {
	stop := []string{"dalirun", "stop", "--workspace", workspace}
	start := s.Command
	for _, arg := range start {
		if strings.HasPrefix(arg, "--cache-dir=") { // where stop finds what the server had pinned
			stop = append(stop, arg)
		}
	}
	if len(start) == 0 { // nothing says how it was started
		start = []string{"serve", "--detach", "--workspace", workspace}
	}
	return shell.Line(stop...) + " && " + Start(start)
}

// Start is a command of dalirun for a shell.
func Start(args []string) string { return shell.Line(append([]string{"dalirun"}, args...)...) }
