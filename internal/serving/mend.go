package serving

import (
	"net"
	"path/filepath"
	"slices"
	"strings"

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

// TakeCommand returns the command that has a workspace's server serve what was built last: a restart where that needs
// another server, else a reload.
func TakeCommand(workspace string, server owner.ServerFile, built owner.Built) string {
	if built.NeedsRestart(server) {
		return CommandIn(workspace, "restart")
	}
	return CommandIn(workspace, "reload")
}

// RestartHint is the advice where only another server can serve what was built.
func RestartHint(workspace string) string {
	return "`" + CommandIn(workspace, "restart") + "` starts a server for it"
}

// FinishHint is the advice where a reload has begun to replace models, and did not end.
func FinishHint(workspace string) string {
	return "answers may be of the new models by now: `" + CommandIn(workspace, "reload") + "` ends what was begun"
}

// StartAgain returns the arguments of dalirun that start a server in the place of one that is stopped, at its address
// and ports, and in the background if that was: of what was built last, if that is not what it serves. They are empty
// if it is not known how it was started.
func StartAgain(server owner.ServerFile, built owner.Built) []string {
	start := slices.Clone(server.Command)
	if built.ServesAnother(server) {
		start = slices.Clone(built.Command)
		for _, arg := range server.Command { // what setup has no flags for was the server's own
			flag, _, _ := strings.Cut(arg, "=")
			if slices.Contains([]string{"--host", "--shm-size", "--ready-timeout", "--detach"}, flag) {
				start = append(start, arg)
			}
		}
	}
	if len(start) == 0 {
		return nil
	}
	for _, p := range []struct{ flag, addr string }{
		{"--http-port=", server.HTTP}, {"--grpc-port=", server.GRPC}, {"--metrics-port=", server.Metrics},
	} {
		named := func(arg string) bool { return strings.HasPrefix(arg, p.flag) }
		if _, port, err := net.SplitHostPort(p.addr); err == nil && !slices.ContainsFunc(start, named) {
			start = append(start, p.flag+port)
		}
	}
	return start
}
