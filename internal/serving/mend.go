package serving

import (
	"path/filepath"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/shell"
)

// Mend is the command that makes a server of a workspace healthy again: it is stopped, and started with the arguments of dalirun that start it.
func Mend(workspace string, start []string) string {
	return owner.StopCommand(workspace) + " && " + Start(start)
}

// Start is a command of dalirun for a shell.
func Start(args []string) string { return shell.Line(append([]string{"dalirun"}, args...)...) }

// CommandIn is a command of dalirun for a workspace: for that of the current project without a flag.
func CommandIn(workspace, command string) string {
	if usual, err := filepath.Abs(owner.DefaultWorkspace); err == nil && workspace == usual {
		return Start([]string{command})
	}
	return Start([]string{command, "--workspace", workspace})
}
