package serving

import (
	"path/filepath"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/shell"
)

// Mend returns the shell command that stops the server of a workspace and starts one by the arguments start of dalirun.
func Mend(workspace string, start []string) string {
	return owner.StopCommand(workspace) + " && " + Start(start)
}

// Start returns a command of dalirun for a shell.
func Start(args []string) string { return shell.Line(append([]string{"dalirun"}, args...)...) }

// CommandIn returns a command of dalirun for a workspace. The workspace of the current project needs no flag.
func CommandIn(workspace, command string) string {
	if usual, err := filepath.Abs(owner.DefaultWorkspace); err == nil && workspace == usual {
		return Start([]string{command})
	}
	return Start([]string{command, "--workspace", workspace})
}
