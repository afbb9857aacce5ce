// Package cli is the command line of dalirun. It is the only place that reads the environment and builds things.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/spelling"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// App is the program. All exported fields are required.
type App struct {
	Program        string // as it was called: os.Args[0]
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	Environ        func() []string // all variables, as NAME=value

	args []string // of the command line
	root fs.FS    // of this host's file system, as far as GPUs and the kernel go; nil is the real one
	// leaseFolder has the leases of GPUs; empty is the host's own
	leaseFolder string
	unread      []string        // warnings, as of settings that are not read, until they are shown
	folders     []remedy.Folder // that the command keeps things in, once they are settled
	recording   *recording      // of the command's run; nil if there is none
	engines     []io.Closer     // connections to the container engine, closed when the command ends
	// adapter makes what runs containers; nil is the usual one
	adapter func(runtimeOptions) (container.Runtime, error)
	watch   serving.Watch // how a foreground serve watches its server; zero is [serving.UsualWatch]
	// measured says what gc finds free on disks; nil is this host
	measured gc.Disks

	screen           io.Writer // stdout as it is: what is drawn there moves a terminal's cursor
	stdoutIsTerminal bool
}

// Run does what args say and returns the exit code. The cause of a cancelled ctx is a [*SignalError].
func (a *App) Run(ctx context.Context, args []string) ExitCode {
	program, out := *a, stdout.New(a.Stdout)
	program.Stdout, program.args = out, args
	program.screen, program.stdoutIsTerminal = a.Stdout, isTerminal(a.Stdout)
	root := program.Command() //nolint:contextcheck // commands get their context from cobra
	root.SetArgs(args)
	err := misnamed(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	err = errors.Join(err, program.show(program.explainer().Explain(program.endRecord(ctx, err)), nil))
	for _, engine := range program.engines {
		_ = engine.Close() // the command has its answers
	}
	for _, text := range program.takeUnread() { // of a run that did not begin
		warn(a.Stderr, text)
	}
	lost := out.Err()
	if errors.Is(err, lost) {
		lost = nil // the command told of it
	}
	alreadyShown, ok := errors.AsType[*shownError](err)
	if !ok {
		return exitCode(a.show(program.explainer().Explain(errors.Join(err, lost)), nil))
	}
	return exitCode(errors.Join(alreadyShown.err, a.show(program.explainer().Explain(lost), nil)))
}

// show shows an error that was explained; logPath, which may be nil, returns the log of a step.
func (a *App) show(err error, logPath func(pipeline.ID) string) error {
	if err == nil {
		return nil
	}
	ui.Error(a.Stderr, err, a.terminal(), logPath)
	return &shownError{err}
}

// shownError is an error that was shown already.
type shownError struct{ err error }

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }

// Command returns the command tree.
func (a *App) Command() *cobra.Command {
	root := &cobra.Command{
		Use:   "dalirun",
		Short: "From PyTorch to a verified NVIDIA Triton server, in containers",
		Long: `dalirun builds a Triton model repository for ResNet50 with DALI preprocessing (PyTorch → ONNX → TensorRT
engine), serves it, and proves that the served answer is PyTorch's own.

Each flag can also be set by an environment variable (--opt-batch is DALIRUN_OPT_BATCH) or in ` + config.File + ` in the
current folder (opt-batch: 64). The command line goes before the environment, and the environment before the file. A
variable that is empty is as one that is not set; an empty value elsewhere is an error, but for --build-network.

A flag that a run has no use for is told of: as an error where what excludes it was asked for too
(--accel cpu --gpus 1), else as a warning on the result. Of --registry, --base-image and --build-network, which the
environment and the file may have for all runs of a machine, that holds on the command line alone. Stdout has the result
alone, with --format json as valid JSON or nothing. Progress, warnings and errors go to stderr.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Parent() == nil || cmd.Parent().Name() == "completion" || cmd.Name() == "help" ||
				strings.HasPrefix(cmd.Name(), "__") {
				return nil
			}
			a.unread = config.Unread(a.Environ(), config.File, flagNames(cmd.Root()))
			if cmd.Flags().Lookup("progress") == nil { // else the run tells of it as of all else
				for _, text := range a.takeUnread() {
					warn(a.Stderr, text)
				}
			}
			return fillFlags(cmd, a.LookupEnv, config.File)
		},
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(a.flagFault)
	root.AddCommand(
		a.setupCommand(), a.serveCommand(), a.reloadCommand(), a.restartCommand(), a.stopCommand(), a.psCommand(),
		a.statusCommand(), a.logsCommand(), a.e2eCommand(), a.tuneCommand(), a.classifyCommand(), a.benchCommand(),
		a.planCommand(), a.lockCommand(), a.doctorCommand(), a.runsCommand(), a.showCommand(), a.diffCommand(),
		a.reproduceCommand(), a.pullCommand(), a.gcCommand(), a.cacheCommand(), a.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		hideUnused(c)
		switch c.Name() {
		case "help":
			c.RunE = helpOf
		case "completion":
			c.Example = "  # for this shell\n  source <(dalirun completion bash)\n\n  # for good\n" +
				"  dalirun completion bash | sudo tee /etc/bash_completion.d/dalirun >/dev/null"
		}
	}
	usageArgs(root)
	return root
}

// helpOf shows the help of the command that args name from the root on.
func helpOf(help *cobra.Command, args []string) error {
	of := help.Root()
	for _, name := range args {
		i := slices.IndexFunc(of.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
		if i < 0 {
			return unknownCommand(of, []string{name})
		}
		of = of.Commands()[i]
	}
	of.InitDefaultHelpFlag()
	return of.Help()
}

// misnamed is an error if args ask for the help of a command that there is not: cobra shows that of what it knows.
func misnamed(root *cobra.Command, args []string) error {
	asks := func(arg string) bool { return arg == "--help" || arg == "-h" }
	if !slices.ContainsFunc(args, asks) {
		return nil
	}
	of, rest, err := root.Find(args)
	if err != nil || !of.HasSubCommands() {
		return nil //nolint:nilerr // cobra says it
	}
	i := slices.IndexFunc(rest, func(arg string) bool { return !strings.HasPrefix(arg, "-") })
	if i >= 0 && !strings.HasPrefix(rest[i], "__") {
		return unknownCommand(of, rest[i:])
	}
	return nil
}

// unknownCommand is what a command that only holds others does: it shows its help, or says that it has no such command.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	hint := spelling.Nearest(args[0], names)
	switch {
	case hint != "":
	case len(names) == 0:
		return pipeline.Usagef("`"+cmd.CommandPath()+" --help` has its flags",
			"`%s` has no command %q", cmd.CommandPath(), args[0])
	default:
		hint = "`" + cmd.CommandPath() + " --help` lists the commands"
	}
	return pipeline.Usagef(hint, "unknown command %q", args[0])
}

// usageArgs makes a wrong command, and arguments of a command that takes none, a usage fault, for c and those below it.
func usageArgs(c *cobra.Command) {
	for _, below := range c.Commands() {
		usageArgs(below)
	}
	if c.HasSubCommands() {
		c.Args, c.RunE = cobra.ArbitraryArgs, unknownCommand
		return
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if _, says := errors.AsType[*pipeline.Fault](err); err != nil && !says {
			return pipeline.Usagef("drop it; `"+cmd.CommandPath()+" --help` has examples",
				"`%s` takes no arguments, and %q is one", cmd.CommandPath(), args[0])
		}
		return err
	}
}

func (a *App) flagFault(cmd *cobra.Command, err error) error {
	hint := "`" + cmd.CommandPath() + " --help` lists the flags"
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		// Short ones without those before that are known.
		word := cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName())
		if near := spelling.Nearest(word, commandFlags(cmd)); near != "" && len(word) > 1 {
			hint = strings.Replace(near, `"`, `"--`, 1)
		}
		i := slices.IndexFunc(a.args, func(arg string) bool {
			return strings.HasPrefix(arg, "-") && strings.HasSuffix(arg, word)
		})
		if i >= 0 && cmd.HasParent() && cmd.Args != nil && cmd.Args(cmd, a.args[i:i+1]) == nil {
			hint = "a file of that name is " + shell.Quote("./"+a.args[i]) + ", or stands after --; " + hint
		}
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return invalid(wrong.GetFlag(), wrong.GetValue(), err)
	}
	return pipeline.Usagef(hint, "%w", err)
}

func commandFlags(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// stdoutGone says whether what is written to stdout from now on reaches nobody.
func (a *App) stdoutGone() bool {
	out, ok := a.Stdout.(*stdout.Writer)
	return ok && out.Gone()
}

// files reads those that the user names.
func (a *App) files() *userfile.Reader { return &userfile.Reader{Stdin: a.Stdin} }

// warn writes a warning for people. Whatever others chose of it, such as the name of a variable, steers no terminal.
func warn(w io.Writer, text string) { fmt.Fprintln(w, "warning: "+printable.Line(text)) }

// asCalled writes the commands of dalirun in a text as this user can paste them.
func (a *App) asCalled(text string) string { return a.called().Commands(text) }

// called is how this user calls dalirun.
func (a *App) called() remedy.Program {
	return remedy.Program{Path: a.Program, Engine: a.engineVariables()}
}

// explainer says what to do about errors. What it returned of an error decides the exit code, see [exitCode].
func (a *App) explainer() remedy.Explainer {
	return remedy.Explainer{Folders: a.folders, Program: a.called()}
}

// takeUnread returns the warnings that were not shown yet, to be shown.
func (a *App) takeUnread() []string {
	texts := a.unread
	a.unread = nil
	return texts
}

func (a *App) env(name string) string {
	value, _ := a.LookupEnv(name)
	return value
}

// terminal says what is known of stderr, where progress and errors go.
func (a *App) terminal() ui.Terminal { return a.terminalAt(a.Stderr) }

// terminalAt says what is known of the place where w writes.
func (a *App) terminalAt(w io.Writer) ui.Terminal {
	t := ui.Terminal{
		NoColor: a.env("NO_COLOR") != "", Term: a.env("TERM"),
		CI: a.env("CI") != "" && a.env("CI") != "false", GitHubActions: a.env("GITHUB_ACTIONS") == "true",
	}
	f, ok := w.(*os.File)
	if !ok {
		return t
	}
	t.IsTTY = isTerminal(f)
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0, 0
		}
		return width, height
	}
	t.Width = func() int { width, _ := size(); return width }
	t.Height = func() int { _, height := size(); return height }
	return t
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
