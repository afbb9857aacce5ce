package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// situation is what decides which flags a command has a use for. What is empty is not known yet.
type situation struct {
	command string
	lane    steps.Lane
	source  steps.Source
	steps   []pipeline.ID // of the run
	flags   *pflag.FlagSet
}

// unusedFlag is a flag that some situations have no use for. Nothing that is asked for by name is dropped in silence: it is an error where
// it was asked for at least as near as what makes the situation so (the command line is nearer than the environment, and
// that than the file), and a warning otherwise.
type unusedFlag struct {
	flag            string
	asks            func(value string) bool // of values that ask for nothing in particular it is false; nil is true
	when            func(situation) bool
	excludedBy      string // the flag that makes the situation so, if one can
	commandLineOnly bool   // the environment and the file, which are for all commands on a machine, may have it: only there it asks for this run
	alwaysError     bool   // however the situation came to be
	why             string
	instead         string // what would use it
}

// unusedFlags are all of them. --force, whose steps a run may not have, is beside them in [situation.useless].
func unusedFlags() []unusedFlag {
	on := func(lane steps.Lane) func(situation) bool { return func(s situation) bool { return s.lane == lane } }
	from := func(source steps.Source) func(situation) bool {
		return func(s situation) bool { return s.source == source }
	}
	of := func(command string) func(situation) bool {
		return func(s situation) bool { return s.command == command }
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
	return []unusedFlag{
		{flag: "gpus", when: on(steps.CPU), excludedBy: "accel", why: "the cpu lane has no GPU", instead: forGPU},
		{
			flag: "precision", asks: is(string(release.FP16)), when: on(steps.CPU), excludedBy: "accel",
			why: noEngine + ", and computes in fp32", instead: forGPU,
		},
		{flag: "opt-batch", asks: func(v string) bool { return v != "0" }, when: on(steps.CPU), excludedBy: "accel", why: noEngine + " to tune", instead: forGPU},
		{flag: "release", when: from(steps.Local), excludedBy: "images", why: localOnes, instead: takeNGC},
		{flag: "registry", when: from(steps.Local), excludedBy: "images", commandLineOnly: true, why: localOnes, instead: takeNGC},
		{flag: "exporter-image", when: from(steps.Local), excludedBy: "images", alwaysError: true, why: replaces, instead: takeNGC},
		{flag: "server-image", when: from(steps.Local), excludedBy: "images", alwaysError: true, why: replaces, instead: takeNGC},
		{flag: "base-image", when: from(steps.NGC), excludedBy: "images", commandLineOnly: true, why: ngcOnes, instead: takeLocal},
		{flag: "build-network", when: from(steps.NGC), excludedBy: "images", commandLineOnly: true, why: ngcOnes, instead: takeLocal},
		{
			flag: "registry", when: func(s situation) bool {
				return s.source == steps.NGC && s.names("exporter-image") && s.names("server-image")
			}, commandLineOnly: true,
			why: "--exporter-image and --server-image say where both images are", instead: "an image of a release comes from it",
		},
		{flag: "image", when: of("setup"), commandLineOnly: true, why: "setup asks for no answer", instead: "serve and e2e do"},
		{flag: "http-port", when: of("setup"), commandLineOnly: true, why: noServer, instead: forServe},
		{flag: "grpc-port", when: of("setup"), commandLineOnly: true, why: noServer, instead: forServe},
		{flag: "metrics-port", when: of("setup"), commandLineOnly: true, why: noServer, instead: forServe},
		{flag: "ready-timeout", when: of("setup"), commandLineOnly: true, why: noServer, instead: forServe},
		{
			flag: "verbose", asks: is("true"), when: func(s situation) bool { return s.value("progress") == "quiet" }, excludedBy: "progress",
			why: "quiet leaves the steps' output out", instead: "--progress plain shows it",
		},
		{flag: "verbose", asks: is("true"), when: of("plan"), commandLineOnly: true, why: "plan runs no step", instead: "setup, serve and e2e show the output of theirs"},
		{
			flag: "workspace", when: func(s situation) bool { return s.command == "classify" && s.names("url") }, commandLineOnly: true,
			why: "--url says which server is asked", instead: "without it the workspace's is",
		},
		{
			flag: "cache-dir", when: of("classify"), commandLineOnly: true,
			why: "classify asks a server, and reads nothing that steps made", instead: "setup, serve and e2e do",
		},
		{
			flag: "cache-dir", when: of("stop"), commandLineOnly: true,
			why: "stop ends a server, and reads nothing that steps made", instead: "gc removes what the cache need not hold",
		},
	}
}

// hideUnused leaves the flags out of a command's help that it never has a use for. A script may still give them to all commands; that they are
// not used is told.
func hideUnused(cmd *cobra.Command) {
	never := situation{command: cmd.Name(), flags: cmd.Flags()} // where nothing is asked for
	for _, u := range unusedFlags() {
		if f := cmd.Flags().Lookup(u.flag); f != nil && u.when(never) {
			f.Hidden = true
		}
	}
}

// uselessFlag is a flag that was named, and that a situation has no use for.
type uselessFlag struct {
	unusedFlag

	value string // of those of --force, the one that is not used
}

// useless are those flags, wherever they were named.
func (s situation) useless() []uselessFlag {
	if s.flags == nil {
		return nil
	}
	var all []uselessFlag
	for _, u := range unusedFlags() {
		f := s.flags.Lookup(u.flag)
		if f == nil || !f.Changed || u.asks != nil && !u.asks(f.Value.String()) || !u.when(s) {
			continue
		}
		all = append(all, uselessFlag{u, f.Value.String()})
	}
	force := s.flags.Lookup("force")
	if force == nil || s.steps == nil {
		return all
	}
	for _, id := range force.Value.(pflag.SliceValue).GetSlice() { //nolint:errcheck,forcetypeassert // --force is one
		if id == "all" || slices.Contains(s.steps, pipeline.ID(id)) {
			continue
		}
		u := unusedFlag{flag: "force", why: "this run has no such step", instead: "`dalirun plan` lists those of e2e"}
		if s.lane == steps.CPU && slices.Contains([]pipeline.ID{steps.IDCastONNX, steps.IDBuildEngine}, pipeline.ID(id)) {
			u.excludedBy, u.why = "accel", "the cpu lane has no such step"
		}
		all = append(all, uselessFlag{u, id})
	}
	return all
}

// unused returns a warning for each flag that was named and that the situation has no use for, and errors for those that must not be dropped.
func (s situation) unused() (warnings []string, err error) {
	var errs []error
	for _, u := range s.useless() {
		f := s.flags.Lookup(u.flag)
		if u.commandLineOnly && nearness(f) != onCommandLine {
			continue
		}
		warning, err := s.judge(u.unusedFlag, named(f, u.value))
		warnings, errs = append(warnings, warning...), append(errs, err)
	}
	return warnings, errors.Join(errs...)
}

// warnUnused warns of flags that a command without steps has no use for: none of its flags must be an error.
func (a *App) warnUnused(cmd *cobra.Command) {
	warnings, _ := situation{command: cmd.Name(), flags: cmd.Flags()}.unused()
	for _, text := range warnings {
		warn(a.Stderr, text)
	}
}

// judge says whether a flag that is not used is an error or a warning.
func (s situation) judge(u unusedFlag, shown string) (warnings []string, err error) {
	if by := s.flags.Lookup(u.excludedBy); by != nil && by.Changed && by.Value.String() != "auto" && nearness(s.flags.Lookup(u.flag)) >= nearness(by) {
		return nil, usagef("drop one of them", "%s and %s exclude each other: %s", shown, named(by, by.Value.String()), u.why)
	}
	if u.alwaysError {
		return nil, usagef(u.instead, "%s is not used: %s", shown, u.why)
	}
	return []string{fmt.Sprintf("%s is not used: %s; %s", shown, u.why, u.instead)}, nil
}

func (s situation) names(flag string) bool {
	f := s.flags.Lookup(flag)
	return f != nil && f.Changed
}

func (s situation) value(flag string) string {
	if f := s.flags.Lookup(flag); f != nil {
		return f.Value.String()
	}
	return ""
}

// How near to the command the value of a flag was written.
const (
	inFile = iota + 1
	inEnvironment
	onCommandLine
)

// origin is the annotation of a flag whose value was not written as the flag itself: the variable, the file or the alias that it is from.
const origin = "origin"

func nearness(f *pflag.Flag) int {
	switch from := f.Annotations[origin]; {
	case len(from) == 0, strings.HasPrefix(from[0], "--"):
		return onCommandLine
	case strings.HasPrefix(from[0], envPrefix):
		return inEnvironment
	default:
		return inFile
	}
}

// named returns a flag and a value as they were written.
func named(f *pflag.Flag, value string) string {
	switch nearness(f) {
	case inEnvironment:
		return f.Annotations[origin][0] + "=" + value
	case inFile:
		return fmt.Sprintf("%s: %s in %s", f.Name, value, f.Annotations[origin][0])
	default:
		if f.NoOptDefVal == value { // a switch
			return originOf(f)
		}
		return originOf(f) + " " + value
	}
}

// situation is what is known of the run that is wished for; lane and source are empty where they are not known yet.
func (w *wishes) situation(lane steps.Lane, source steps.Source) situation {
	return situation{command: w.command, lane: lane, source: source, flags: w.set}
}

// of is s with the steps of its run.
func (s situation) of(ids []pipeline.ID) situation {
	s.steps = ids
	return s
}

// until is the last step of the command's run.
func (w *wishes) until() pipeline.ID {
	switch w.command {
	case "setup":
		return steps.IDAssembleRepository
	case "serve":
		return steps.IDServe
	default:
		return steps.IDVerify
	}
}

// stepsOf are the steps of a run with these options.
func (w *wishes) stepsOf(o steps.Options) []pipeline.ID {
	var ids []pipeline.ID
	for _, s := range steps.For(o, steps.Tools{}, w.until()) {
		ids = append(ids, s.ID())
	}
	return ids
}

// flags says which flags a run would have no use for.
func (d *diagnosis) flags(context.Context) finding {
	r, err := d.found()
	if err != nil { // no image was found, and the lane still decides
		l, err := d.lane()
		if err != nil {
			return finding{}
		}
		r = l.resolved
	}
	warnings, err := d.wishes.situation(r.Lane, r.Images).of(d.wishes.stepsOf(r.Options)).unused()
	if err != nil || len(warnings) == 0 { // errors are the lane's
		return finding{}
	}
	return finding{Status: statusWarn, Saw: strings.Join(warnings, "; "), Remedy: "drop what is not used"}
}
