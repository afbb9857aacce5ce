package owner

import "github.com/dalirun/dalirun/internal/shell"

// StopCommand returns the shell command that stops the server of a workspace, from any folder.
func StopCommand(workspace string) string {
	return shell.Line("dalirun", "stop", "--workspace", workspace)
}
