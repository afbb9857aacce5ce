package target

import (
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// Situation is what decides which flags a command has a use for. What is empty is not known yet.
type Situation struct {
	Command  string
	Lane     Lane
	Source   Source
	Settings Settings
}

// UnusedFlag is a flag that some situations have no use for. Nothing that is asked for by name is dropped in silence: it
// is an error where it was asked for at least as near as what makes the situation so (the command line is nearer than
// the environment, and that than the file), and a warning otherwise.
type UnusedFlag struct {
	Flag       string
	ExcludedBy string // the flag that makes the situation so, if one can
	Why        string
	Instead    string // what would use it

	asks            func(value string) bool // false of values that ask for nothing in particular; nil is true
	when            func(Situation) bool
	commandLineOnly bool // the environment and the file, which are for all commands on a machine, may have it
	alwaysError     bool // however the situation came to be
}

// unusedFlags are all of them but the steps of --force, of which only the list of steps knows.
func unusedFlags() []UnusedFlag {
	on := func(lane Lane) func(Situation) bool { return func(s Situation) bool { return s.Lane == lane } }
	from := func(source Source) func(Situation) bool {
		return func(s Situation) bool { return s.Source == source }
	}
	of := func(command string) func(Situation) bool {
		return func(s Situation) bool { return s.Command == command }
	}
	is := func(value string) func(string) bool { return func(v string) bool { return v == value } }
	const (
		noEngine  = "the cpu lane has no TensorRT engine"
		forGPU    = "--accel gpu makes a missing GPU an error"
		localOnes = "it is of NVIDIA's images, and the local ones are taken"
		replaces  = "it replaces one of NVIDIA's images, and the local ones are built here"
		takeNGC   = "--images ngc takes NVIDIA's"
		ngcOnes   = "it is of the local images, and NVIDIA's are taken"
		takeLocal = "--accel cpu --images local builds the local ones"
		noServer  = "setup starts no server"
		forServe  = "serve and e2e do"
	)
	return []UnusedFlag{
		{Flag: "gpus", when: on(CPU), ExcludedBy: "accel", Why: "the cpu lane has no GPU", Instead: forGPU},
		{
			Flag: "precision", asks: is(string(release.FP16)), when: on(CPU), ExcludedBy: "accel",
			Why: noEngine + ", and computes in fp32", Instead: forGPU,
		},
		{
			Flag: "opt-batch", asks: func(v string) bool { return v != "0" }, when: on(CPU), ExcludedBy: "accel",
			Why: noEngine + " to tune", Instead: forGPU,
		},
		{Flag: "release", when: from(Local), ExcludedBy: "images", Why: localOnes, Instead: takeNGC},
		{Flag: "registry", when: from(Local), ExcludedBy: "images", commandLineOnly: true, Why: localOnes, Instead: takeNGC},
		{Flag: "exporter-image", when: from(Local), ExcludedBy: "images", alwaysError: true, Why: replaces, Instead: takeNGC},
		{Flag: "server-image", when: from(Local), ExcludedBy: "images", alwaysError: true, Why: replaces, Instead: takeNGC},
		{Flag: "base-image", when: from(NGC), ExcludedBy: "images", commandLineOnly: true, Why: ngcOnes, Instead: takeLocal},
		{Flag: "build-network", when: from(NGC), ExcludedBy: "images", commandLineOnly: true, Why: ngcOnes, Instead: takeLocal},
		{
			Flag: "registry", when: func(s Situation) bool {
				return s.Source == NGC && s.Settings.Named("exporter-image") && s.Settings.Named("server-image")
			}, commandLineOnly: true,
			Why: "--exporter-image and --server-image say where both images are", Instead: "an image of a release comes from it",
		},
		{Flag: "image", when: of("setup"), commandLineOnly: true, Why: "setup asks for no answer", Instead: forServe},
		{Flag: "http-port", when: of("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "grpc-port", when: of("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "metrics-port", when: of("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "ready-timeout", when: of("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{
			Flag: "verbose", asks: is("true"), ExcludedBy: "progress", when: func(s Situation) bool {
				progress, _ := s.Settings.Find("progress")
				return progress.Value == "quiet"
			},
			Why: "quiet leaves the steps' output out", Instead: "--progress plain shows it",
		},
		{
			Flag: "verbose", asks: is("true"), when: of("plan"), commandLineOnly: true,
			Why: "plan runs no step", Instead: "setup, serve and e2e show the output of theirs",
		},
		{
			Flag: "workspace", when: func(s Situation) bool { return s.Command == "classify" && s.Settings.Named("url") },
			commandLineOnly: true, Why: "--url says which server is asked", Instead: "without it the workspace's is",
		},
		{
			Flag: "cache-dir", when: of("classify"), commandLineOnly: true,
			Why: "classify asks a server, and reads nothing that steps made", Instead: "setup, serve and e2e do",
		},
		{
			Flag: "cache-dir", when: of("stop"), commandLineOnly: true,
			Why: "stop ends a server, and reads nothing that steps made", Instead: "gc removes what the cache need not hold",
		},
	}
}

// NeverUsed are the flags that a command never has a use for. A script may still give them to all commands.
func NeverUsed(command string) []string {
	var flags []string
	never := Situation{Command: command} // where nothing is asked for
	for _, u := range unusedFlags() {
		if u.when(never) {
			flags = append(flags, u.Flag)
		}
	}
	return flags
}

// useless are the flags that were named, wherever, and that the situation has no use for.
func (s Situation) useless() []UnusedFlag {
	var all []UnusedFlag
	for _, u := range unusedFlags() {
		setting, named := s.Settings.Find(u.Flag)
		if !named || u.asks != nil && !u.asks(setting.Value) || !u.when(s) {
			continue
		}
		all = append(all, u)
	}
	return all
}

// Useless names those flags.
func (s Situation) Useless() []string {
	var flags []string
	for _, u := range s.useless() {
		flags = append(flags, u.Flag)
	}
	return flags
}

// Unused returns a warning for each flag that was named and that the situation has no use for, and an error for those
// that must not be dropped.
func (s Situation) Unused() (warnings []string, err error) {
	var errs []error
	for _, u := range s.useless() {
		setting, _ := s.Settings.Find(u.Flag)
		if u.commandLineOnly && setting.Nearness() != OnCommandLine {
			continue
		}
		warning, err := s.Settings.Judge(u, setting.Value)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		errs = append(errs, err)
	}
	return warnings, errors.Join(errs...)
}

// Judge says whether a flag that is not used with a value, one of several perhaps, is an error or a warning.
func (s Settings) Judge(u UnusedFlag, value string) (warning string, err error) {
	shown := s.Written(u.Flag, value)
	setting, _ := s.Find(u.Flag)
	by, named := s.Find(u.ExcludedBy)
	if named && by.Value != Auto && setting.Nearness() >= by.Nearness() {
		return "", usagef("drop one of them", "%s and %s exclude each other: %s", shown, by, u.Why)
	}
	if u.alwaysError {
		return "", usagef(u.Instead, "%s is not used: %s", shown, u.Why)
	}
	return fmt.Sprintf("%s is not used: %s; %s", shown, u.Why, u.Instead), nil
}

func usagef(hint, format string, args ...any) error {
	return pipeline.Faultf(pipeline.Usage, hint, format, args...)
}
