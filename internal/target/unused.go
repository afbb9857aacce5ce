package target

import (
	"errors"
	"fmt"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// Situation decides which flags a command has a use for. Fields that are not known yet are empty.
type Situation struct {
	Command  string
	Lane     Lane
	Source   Source
	Settings Settings
}

// UnusedFlag is a flag that some situations have no use for. No flag that was set is dropped in silence. It is an error
// if it was set at least as near as the flag that excludes it: the command line is nearer than the environment, and the
// environment than the file. Else it is a warning.
type UnusedFlag struct {
	Flag       string
	ExcludedBy string // the flag that makes it useless; empty if no flag does
	Why        string
	Instead    string // in which situation it is used

	// false for values that request nothing in particular; nil is always true
	significant     func(value string) bool
	when            func(Situation) bool
	commandLineOnly bool // only a use on the command line is told of: the environment and the file are for all commands
	alwaysError     bool // it is an error whatever makes it useless
}

// unusedFlags returns all flags that some situation has no use for, but for the steps of --force, which only the list
// of steps knows.
func unusedFlags() []UnusedFlag {
	inLane := func(lane Lane) func(Situation) bool { return func(s Situation) bool { return s.Lane == lane } }
	withSource := func(source Source) func(Situation) bool {
		return func(s Situation) bool { return s.Source == source }
	}
	inCommand := func(command string) func(Situation) bool {
		return func(s Situation) bool { return s.Command == command }
	}
	plans := func(s Situation) bool { return s.Command == "plan" || s.Command == "doctor" }
	equals := func(value string) func(string) bool { return func(v string) bool { return v == value } }
	// A flag that is of no use without another one is in the help all the same: nothing is named there.
	without := func(flag, other string) func(Situation) bool {
		return func(s Situation) bool { return s.Settings.Named(flag) && !s.Settings.Named(other) }
	}
	unproven := func(s Situation) bool { return s.Command == "lock" && !s.Settings.Named("prove") }
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

		noServerYet = "pull starts no server"
		lockServers = "lock publishes no server, and --prove does at free ports of this host alone"
		lockRuns    = "lock builds no model and starts no server"
		prove       = "--prove does"

		ownServers = "tune publishes several servers, at free ports of this host alone"
	)
	return []UnusedFlag{
		{Flag: "gpus", when: inLane(CPU), ExcludedBy: "accel", Why: "the cpu lane has no GPU", Instead: forGPU},
		{
			Flag: "precision", significant: equals(string(release.FP16)), when: inLane(CPU), ExcludedBy: "accel",
			Why: noEngine + ", and computes in fp32", Instead: forGPU,
		},
		{
			Flag: "opt-batch", significant: func(v string) bool { return v != "0" }, when: inLane(CPU),
			ExcludedBy: "accel",
			Why:        noEngine + " to tune", Instead: forGPU,
		},
		{
			Flag: "gpu-wait", when: func(s Situation) bool { return s.Lane == CPU && !plans(s) }, commandLineOnly: true,
			Why: "the cpu lane has no GPU", Instead: forGPU,
		},
		{
			Flag: "gpu-wait", when: plans, commandLineOnly: true,
			Why: "nothing is built or measured", Instead: "setup, serve and e2e wait",
		},
		{
			Flag: "gpu-wait", when: func(s Situation) bool { return s.Command == "bench" && s.Settings.Named("url") },
			commandLineOnly: true,
			Why:             "which GPUs the server at --url has is not known", Instead: "the workspace's server is waited for",
		},
		{Flag: "release", when: withSource(Local), ExcludedBy: "images", Why: localOnes, Instead: takeNGC},
		{
			Flag: "registry", when: withSource(Local), ExcludedBy: "images", commandLineOnly: true, Why: localOnes,
			Instead: takeNGC,
		},
		{
			Flag: "exporter-image", when: withSource(Local), ExcludedBy: "images", alwaysError: true, Why: replaces,
			Instead: takeNGC,
		},
		{
			Flag: "server-image", when: withSource(Local), ExcludedBy: "images", alwaysError: true, Why: replaces,
			Instead: takeNGC,
		},
		{
			Flag: "base-image", when: withSource(NGC), ExcludedBy: "images", commandLineOnly: true, Why: ngcOnes,
			Instead: takeLocal,
		},
		{
			Flag: "build-network", when: withSource(NGC), ExcludedBy: "images", commandLineOnly: true, Why: ngcOnes,
			Instead: takeLocal,
		},
		{
			Flag: "registry", when: func(s Situation) bool {
				return s.Source == NGC && s.Settings.Named("exporter-image") && s.Settings.Named("server-image")
			}, commandLineOnly: true,
			Why:     "--exporter-image and --server-image say where both images are",
			Instead: "an image of a release comes from it",
		},
		{
			Flag: "image", when: inCommand("setup"), commandLineOnly: true, Why: "setup asks for no answer",
			Instead: forServe,
		},
		{
			Flag: "image", when: inCommand("pull"), commandLineOnly: true, Why: "pull asks for no answer",
			Instead: forServe,
		},
		{Flag: "host", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "http-port", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "grpc-port", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "metrics-port", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "shm-size", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "host", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "http-port", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "grpc-port", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "metrics-port", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "shm-size", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "host", when: inCommand("tune"), commandLineOnly: true, Why: ownServers, Instead: forServe},
		{Flag: "http-port", when: inCommand("tune"), commandLineOnly: true, Why: ownServers, Instead: forServe},
		{Flag: "grpc-port", when: inCommand("tune"), commandLineOnly: true, Why: ownServers, Instead: forServe},
		{Flag: "metrics-port", when: inCommand("tune"), commandLineOnly: true, Why: ownServers, Instead: forServe},
		{Flag: "ready-timeout", when: inCommand("setup"), commandLineOnly: true, Why: noServer, Instead: forServe},
		{Flag: "ready-timeout", when: inCommand("pull"), commandLineOnly: true, Why: noServerYet, Instead: forServe},
		{Flag: "host", when: inCommand("lock"), commandLineOnly: true, Why: lockServers, Instead: forServe},
		{Flag: "http-port", when: inCommand("lock"), commandLineOnly: true, Why: lockServers, Instead: forServe},
		{Flag: "grpc-port", when: inCommand("lock"), commandLineOnly: true, Why: lockServers, Instead: forServe},
		{Flag: "metrics-port", when: inCommand("lock"), commandLineOnly: true, Why: lockServers, Instead: forServe},
		{
			Flag: "frozen", significant: equals("true"), when: inCommand("lock"), commandLineOnly: true,
			Why: "lock writes what a frozen run keeps to", Instead: "setup, serve and e2e keep to it",
		},
		{Flag: "max-batch", when: unproven, commandLineOnly: true, Why: lockRuns, Instead: prove},
		{Flag: "serving", when: unproven, commandLineOnly: true, Why: lockRuns, Instead: prove},
		{Flag: "shm-size", when: unproven, commandLineOnly: true, Why: lockRuns, Instead: prove},
		{Flag: "ready-timeout", when: unproven, commandLineOnly: true, Why: lockRuns, Instead: prove},
		{Flag: "force", when: unproven, commandLineOnly: true, Why: lockRuns, Instead: prove},
		{
			Flag: "verbose", significant: equals("true"), ExcludedBy: "progress", when: func(s Situation) bool {
				progress, _ := s.Settings.Find("progress")
				return progress.Value == "quiet"
			},
			Why: "quiet leaves the steps' output out", Instead: "--progress plain shows it",
		},
		{
			Flag: "verbose", significant: equals("true"), when: inCommand("plan"), commandLineOnly: true,
			Why: "plan runs no step", Instead: "setup, serve and e2e show the output of theirs",
		},
		{
			Flag: "workspace", when: func(s Situation) bool {
				return (s.Command == "classify" || s.Command == "bench") && s.Settings.Named("url")
			},
			commandLineOnly: true, Why: "--url says which server is asked", Instead: "without it the workspace's is",
		},
		{
			Flag: "cache-dir", when: inCommand("classify"), commandLineOnly: true,
			Why: "classify asks a server, and reads nothing that steps made", Instead: "setup, serve and e2e do",
		},
		{
			Flag: "cache-dir", when: inCommand("bench"), commandLineOnly: true,
			Why: "bench loads a server, and reads nothing that steps made", Instead: "setup, serve and e2e do",
		},
		{
			Flag: "max-regression", when: without("max-regression", "baseline"), commandLineOnly: true,
			Why: "there is no baseline that figures could be worse than", Instead: "--baseline names one",
		},
		{
			Flag: "max-in-flight", when: without("max-in-flight", "rate"), commandLineOnly: true,
			Why: "a closed loop has as many requests in flight as --concurrency says", Instead: "an open loop (--rate) uses it",
		},
		{
			Flag: "cache-dir", when: inCommand("stop"), commandLineOnly: true,
			Why:     "stop ends a server, and reads nothing that steps made",
			Instead: "gc removes what the cache need not hold",
		},
		{
			Flag: "cache-dir", when: inCommand("logs"), commandLineOnly: true,
			Why:     "logs shows what a server wrote, and reads nothing that steps made",
			Instead: "setup, serve and e2e do",
		},
		{
			Flag: "cache-dir", when: inCommand("status"), commandLineOnly: true,
			Why: "status asks a server, and reads nothing that steps made", Instead: "setup, serve and e2e do",
		},
		{
			Flag: "interval", when: func(s Situation) bool {
				watch, _ := s.Settings.Find("watch")
				return s.Command == "status" && s.Settings.Named("interval") && watch.Value != "true"
			}, commandLineOnly: true,
			Why: "status looks once", Instead: "--watch looks again and again",
		},
	}
}

// NeverUsed returns the flags that a command never has a use for. A script may still pass them to all commands.
func NeverUsed(command string) []string {
	var flags []string
	bare := Situation{Command: command} // without any setting
	for _, u := range unusedFlags() {
		if u.when(bare) {
			flags = append(flags, u.Flag)
		}
	}
	return flags
}

// useless returns the flags that were set and that the situation has no use for.
func (s Situation) useless() []UnusedFlag {
	var all []UnusedFlag
	for _, u := range unusedFlags() {
		setting, named := s.Settings.Find(u.Flag)
		if !named || u.significant != nil && !u.significant(setting.Value) || !u.when(s) {
			continue
		}
		all = append(all, u)
	}
	return all
}

// Useless names the flags that were set and that the situation has no use for.
func (s Situation) Useless() []string {
	var flags []string
	for _, u := range s.useless() {
		flags = append(flags, u.Flag)
	}
	return flags
}

// Unused returns warnings for the flags that were set and that the situation has no use for, and an error for those
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

// Judge returns the warning or the error for a value of a flag that is not used. The flag may have other values.
func (s Settings) Judge(u UnusedFlag, value string) (warning string, err error) {
	written := s.Written(u.Flag, value)
	setting, _ := s.Find(u.Flag)
	cause, named := s.Find(u.ExcludedBy)
	if named && cause.Value != Auto && setting.Nearness() >= cause.Nearness() {
		return "", pipeline.Usagef("drop one of them", "%s and %s exclude each other: %s", written, cause, u.Why)
	}
	if u.alwaysError {
		return "", pipeline.Usagef(u.Instead, "%s is not used: %s", written, u.Why)
	}
	return fmt.Sprintf("%s is not used: %s; %s", written, u.Why, u.Instead), nil
}
