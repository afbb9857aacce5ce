package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// asked returns the flags of a command that were set on the command line, by the environment and by the file.
func asked(t *testing.T, command string, line []string, environment map[string]string, file string) *pflag.FlagSet {
	t.Helper()
	app := appIn(nil, io.Discard, io.Discard)
	root := app.Command()
	i := slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == command })
	cmd := root.Commands()[i]
	cmd.SetContext(t.Context())
	if err := cmd.ParseFlags(line); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), config.File)
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { value, ok := environment[name]; return value, ok }
	if err := fillFlags(cmd, lookup, name); err != nil {
		t.Fatal(err)
	}
	return cmd.Flags()
}

// Each flag of each command that runs steps, from each place where it can be written, on each lane and image source: a run that has no use for
// it says so by the name under which it was asked for. A new flag is one that every run has a use for, or belongs into this table.
func TestUnusedFlags(t *testing.T) {
	t.Parallel()
	const cpuLocal, cpuNGC, gpuNGC = "cpu/local", "cpu/ngc", "gpu/ngc"
	unused := map[string][]string{ // by a run of e2e
		"gpus": {cpuLocal, cpuNGC}, "precision": {cpuLocal, cpuNGC}, "opt-batch": {cpuLocal, cpuNGC},
		"release": {cpuLocal}, "registry": {cpuLocal}, "exporter-image": {cpuLocal}, "server-image": {cpuLocal},
		"base-image": {cpuNGC, gpuNGC}, "build-network": {cpuNGC, gpuNGC}, "force": {cpuLocal, cpuNGC},
		"gpu-wait": {cpuLocal, cpuNGC},
	}
	configured := []string{"registry", "base-image", "build-network", "gpu-wait"}                                     // for all runs, in the environment and the file
	unusedBySetup := []string{"image", "host", "http-port", "grpc-port", "metrics-port", "ready-timeout", "shm-size"} // on the command line
	used := []string{                                                                                                 // by every run
		"accel", "cache-dir", "images", "max-batch", "memory", "model", "require-gpu", "weights", "workspace", "detach", "format", "progress", "verbose",
		"junit", "html", "bundle", "serving", "record", "record-model", "runs-dir", "cache-readonly", "lock", "frozen",
	}
	// Plan and doctor have no use for these.
	of := func(command string) []string {
		return map[string][]string{"plan": {"verbose", "gpu-wait"}, "doctor": {"gpu-wait"}}[command]
	}
	values := map[string]string{
		"accel": "auto", "images": "auto", "precision": "fp16", "opt-batch": "8", "max-batch": "16", "http-port": "9000", "grpc-port": "9001",
		"metrics-port": "9002", "ready-timeout": "1m", "shm-size": "2g", "require-gpu": "true", "record-model": "true", "cache-readonly": "true", "verbose": "true", "frozen": "true", "detach": "true", "progress": "plain", "format": "json", "host": "0.0.0.0",
		"force": "build-engine", "memory": "8g", "gpu-wait": "5m", "gpus": "device=1", "serving": "dali-threads=2",
	}
	noServer := []string{"setup", "pull"}
	for _, command := range []string{"setup", "serve", "e2e", "plan", "doctor", "pull"} {
		asked(t, command, nil, nil, "").VisitAll(func(f *pflag.Flag) {
			value := values[f.Name]
			if value == "" {
				value = "some/thing"
			}
			if f.Name == "help" || f.Annotations[aliasOf] != nil {
				return
			}
			if _, decided := unused[f.Name]; decided == slices.Contains(used, f.Name) && !slices.Contains(unusedBySetup, f.Name) {
				t.Errorf("--%s of %s: say whether every run has a use for it, or which has none", f.Name, command)
			}
			for shown, flags := range map[string]*pflag.FlagSet{
				"--" + f.Name:                         asked(t, command, []string{"--" + f.Name + "=" + value}, nil, ""),
				config.Variable(f.Name) + "=" + value: asked(t, command, nil, map[string]string{config.Variable(f.Name): value}, ""),
				f.Name + ": " + value + " in /":       asked(t, command, nil, nil, f.Name+": "+value),
			} {
				for _, on := range []string{cpuLocal, cpuNGC, gpuNGC} {
					lane, source, _ := strings.Cut(on, "/")
					told, err := unusedBy(command, flags, target.Target{Lane: target.Lane(lane), Source: target.Source(source)})
					if err != nil {
						told = append(told, err.Error())
					}
					onLine := strings.HasPrefix(shown, "--")
					want := command == "pull" && f.Name == "force" || // it ends before build-engine on each lane
						slices.Contains(unused[f.Name], on) && (onLine || !slices.Contains(configured, f.Name)) ||
						slices.Contains(noServer, command) && onLine && slices.Contains(unusedBySetup, f.Name) || onLine && slices.Contains(of(command), f.Name)
					if f.Hidden != (slices.Contains(noServer, command) && slices.Contains(unusedBySetup, f.Name) || slices.Contains(of(command), f.Name)) {
						t.Errorf("--%s of %s: its help has it is %t", f.Name, command, !f.Hidden)
					}
					if want && (len(told) != 1 || !strings.HasPrefix(told[0], shown) || !strings.Contains(told[0], " is not used: ")) || !want && len(told) > 0 {
						t.Errorf("%s, %s: a run of %s has a use for it is %t, and %q is told", command, shown, on, !want, told)
					}
				}
			}
		})
	}
}

// What was asked for at least as near as what excludes it is an error; the command line goes before the environment, and that before the file.
func TestUnusedIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command     string
		line        []string
		environment map[string]string
		file        string
		source      target.Source
		warning     string
		err         string
	}{
		"auto":               {line: []string{"--gpus=device=9"}, warning: "--gpus device=9 is not used: the cpu lane has no GPU; --accel gpu makes a missing GPU an error"},
		"both on the line":   {line: []string{"--gpus=device=9", "--accel=cpu"}, err: "--gpus device=9 and --accel cpu exclude each other: the cpu lane has no GPU"},
		"the lane is nearer": {line: []string{"--accel=cpu"}, file: "gpus: device=9", warning: "gpus: device=9 in "},
		"the flag is nearer": {line: []string{"--gpus=device=9"}, environment: map[string]string{"DALIRUN_ACCEL": "cpu"}, err: "--gpus device=9 and DALIRUN_ACCEL=cpu exclude each other"},
		"both in the file":   {file: "accel: cpu\nprecision: fp16", err: "precision: fp16 in "},
		"both in the environment": {
			environment: map[string]string{"DALIRUN_ACCEL": "cpu", "DALIRUN_OPT_BATCH": "4"}, err: "DALIRUN_OPT_BATCH=4 and DALIRUN_ACCEL=cpu exclude each other: the cpu lane has no TensorRT engine to tune",
		},
		"accel auto is no lane":   {line: []string{"--gpus=device=9", "--accel=auto"}, warning: "--gpus device=9 is not used"},
		"what is computed anyway": {line: []string{"--precision=fp32", "--opt-batch=0", "--accel=cpu"}},
		"not named":               {line: []string{"--accel=cpu"}},
		"images of any name":      {line: []string{"--server-image=a/b:c"}, err: "--server-image a/b:c is not used: it replaces one of NVIDIA's images, and the local ones are built here"},
		"a step of the gpu lane":  {line: []string{"--force=build-engine,weights"}, warning: "--force build-engine is not used: the cpu lane has no such step"},
		"and the lane":            {line: []string{"--force=cast-onnx", "--accel=cpu"}, err: "--force cast-onnx and --accel cpu exclude each other"},
		"a step that is no setup": {command: "setup", line: []string{"--force=reference", "--accel=cpu"}, warning: "--force reference is not used: this run has no such step"},
		"all steps":               {line: []string{"--force=all", "--accel=cpu"}},
		"quiet":                   {line: []string{"--progress=quiet", "-v"}, err: "--verbose and --progress quiet exclude each other: quiet leaves the steps' output out"},
		"quiet in the file":       {file: "progress: quiet", line: []string{"-v"}, err: "--verbose and progress: quiet in "},
		"a port of all commands":  {command: "setup", file: "http-port: 9000"},
		"images of one's own":     {command: "plan", line: []string{"--images=ngc", "--registry=a.b/c", "--server-image=a.b/c:d", "--exporter-image=a.b/c:d"}, source: target.NGC, warning: "--registry a.b/c is not used: --exporter-image and --server-image say where both images are"},
		"a machine's registry":    {command: "plan", environment: map[string]string{"DALIRUN_REGISTRY": "a.b/c"}},
		"a machine's base image":  {command: "plan", line: []string{"--images=ngc"}, environment: map[string]string{"DALIRUN_BASE_IMAGE": "debian:12"}, file: "build-network: none", source: target.NGC},
		"a base image":            {command: "plan", line: []string{"--base-image=debian:12"}, source: target.NGC, warning: "--base-image debian:12 is not used: "},
		"one image of one's own":  {command: "plan", line: []string{"--images=ngc", "--registry=a.b/c", "--server-image=a.b/c:d"}, source: target.NGC},
		"a server's address":      {command: "classify", line: []string{"--url=a:1", "--workspace=w", "--cache-dir=c"}, warning: "--workspace w is not used: --url says which server is asked; without it the workspace's is\n--cache-dir c is not used: "},
		"a cache of stop":         {command: "stop", line: []string{"--workspace=w", "--cache-dir=c"}, warning: "--cache-dir c is not used: stop ends a server, "},
		"a cache of logs":         {command: "logs", line: []string{"--cache-dir=c"}, warning: "--cache-dir c is not used: logs shows what a server wrote, "},
		"a workspace's server":    {command: "classify", line: []string{"--workspace=w"}},
		"a workspace of the file": {command: "classify", line: []string{"--url=a:1"}, file: "workspace: w\ncache-dir: c"},
		"a port of setup":         {command: "setup", line: []string{"--http-port=9000"}, warning: "--http-port 9000 is not used: setup starts no server; serve and e2e do"},
	} {
		command := c.command
		if command == "" {
			command = "e2e"
		}
		if c.source == "" {
			c.source = target.Local
		}
		flags := asked(t, command, c.line, c.environment, c.file)
		warnings, err := unusedBy(command, flags, target.Target{Lane: target.CPU, Source: c.source})
		told := strings.Join(warnings, "\n")
		if (told == "") != (c.warning == "") || !strings.HasPrefix(told, c.warning) {
			t.Errorf("%s: the warning is %q, not %q", name, told, c.warning)
		}
		if (err == nil) != (c.err == "") || err != nil && (!strings.HasPrefix(err.Error(), c.err) || exitCode(err) != ExitUsage || pipeline.HintOf(err) == "") {
			t.Errorf("%s: the error is %v, not %q", name, err, c.err)
		}
	}
}

// A forced step that the run has is no surprise on the gpu lane.
func TestUnusedForceOnGPU(t *testing.T) {
	t.Parallel()
	flags := asked(t, "e2e", []string{"--force=build-engine,reference"}, nil, "")
	if warnings, err := unusedBy("e2e", flags, target.Target{Lane: target.GPU, Source: target.NGC}); err != nil || len(warnings) > 0 {
		t.Errorf("%q, %v", warnings, err)
	}
}

// unusedBy is what is said of the flags that a command's run of a target has no use for.
func unusedBy(command string, flags *pflag.FlagSet, t target.Target) ([]string, error) {
	r := runFlags{request: target.Request{Command: command, Settings: settingsOf(flags)}}
	if force := flags.Lookup("force"); force != nil && force.Changed {
		r.force = force.Value.(pflag.SliceValue).GetSlice() //nolint:errcheck,forcetypeassert // --force is one
	}
	warnings, err := r.request.Situation(t.Lane, t.Source).Unused()
	unused, forceErr := r.force.Unused(r.request, t)
	return append(warnings, unused...), errors.Join(err, forceErr)
}
