package serving

import "github.com/dalirun/dalirun/internal/shell"

// StopCommand is what stops the server of a workspace, from any folder.
func StopCommand(workspace string) string {
	return shell.Line("dalirun", "stop", "--workspace", workspace)
}

// Mend is the command that makes a server of a workspace healthy again: it is stopped, and started with the arguments of dalirun that start it.
func Mend(workspace string, start []string) string {
	return StopCommand(workspace) + " && " + Start(start)
}

// Start is a command of dalirun for a shell.
func Start(args []string) string { return shell.Line(append([]string{"dalirun"}, args...)...) }
