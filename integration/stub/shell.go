package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// entrypoint is that of NVIDIA's images: a banner, then the command.
func (p *process) entrypoint() int {
	fmt.Fprintf(p.stdout,
		"\n=============================\n== Stub of NVIDIA's image  ==\n=============================\n\n")
	if len(p.args) < 2 {
		return 0
	}
	return p.exec(p.environ, p.args[1:])
}

// command is all of the shell's language that this one knows: assignments, and exec of a program with the arguments; or
// such a program, and if that ends well another one, which may fail.
var (
	command = regexp.MustCompile(`^((?:\w+="[^"]*" )*)exec (\S+) "\$@"$`)
	list    = regexp.MustCompile(`^((?:\w+="[^"]*"; )*)(\S+) "\$@" && \{ (\S.*) \|\| true; \}$`)
)

// shell is sh -c SCRIPT NAME ARGS….
func (p *process) shell() int {
	if len(p.args) < 4 || p.args[1] != "-c" {
		fmt.Fprintf(p.stderr, "sh: 0: the stub knows sh -c SCRIPT NAME ARGS, not %q\n", p.args[1:])
		return 2
	}
	match, then := command.FindStringSubmatch(p.args[2]), ""
	if match == nil {
		if match = list.FindStringSubmatch(p.args[2]); match != nil {
			then = match[3]
		}
	}
	if match == nil {
		fmt.Fprintf(p.stderr, "sh: 1: the stub does not understand %s\n", p.args[2])
		return 2
	}
	environ := p.environ
	for _, assignment := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(match[1], -1) {
		environ = with(environ, assignment[1], os.Expand(assignment[2], p.env))
	}
	argv := append([]string{match[2]}, p.args[4:]...)
	if then == "" {
		return p.exec(environ, argv)
	}
	if code := p.fork(environ, argv); code != 0 {
		return code
	}
	_ = p.fork(environ, strings.Fields(then))
	return 0
}

// fork runs argv, found on the PATH of environ, to its end.
func (p *process) fork(environ, argv []string) int {
	file := find(argv[0], (&process{environ: environ}).env("PATH"))
	cmd := exec.Command(file, argv[1:]...) //nolint:gosec,noctx // an image's own programs; they end with the container
	cmd.Args[0], cmd.Env, cmd.Stdout, cmd.Stderr = file, environ, p.stdout, p.stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		fmt.Fprintf(p.stderr, "sh: 1: %s: not found (%v)\n", argv[0], err)
		return 127
	}
	return cmd.ProcessState.ExitCode()
}

// with returns environ with a variable set.
func with(environ []string, name, value string) []string {
	var out []string
	for _, pair := range environ {
		if !strings.HasPrefix(pair, name+"=") {
			out = append(out, pair)
		}
	}
	return append(out, name+"="+value)
}

// exec becomes argv, found on the PATH of environ.
func (p *process) exec(environ, argv []string) int {
	file := argv[0]
	if !strings.Contains(file, "/") {
		file = find(file, (&process{environ: environ}).env("PATH"))
	}
	err := syscall.Exec(file, append([]string{file}, argv[1:]...), environ) //nolint:gosec // an image's own programs
	fmt.Fprintf(p.stderr, "%s: 1: exec: %s: not found (%v)\n", filepath.Base(p.args[0]), argv[0], err)
	return 127
}

func find(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return name
}
