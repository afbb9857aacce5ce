package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// bundleWithin bounds the plan; nvidia-smi has a limit of its own.
	bundleWithin = 10 * time.Second
	// bundledRuns is how many runs' logs go in: the one that failed, and what was tried after it.
	bundledRuns = 3
	// bundledTail is how much of a log is read, in bytes. More than the archive takes of it, so that it says what it left out.
	bundledTail = 1 << 20
)

// newBundle makes the file of a bundle. One that is there is never overwritten.
func newBundle(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, usagef("name another file, or remove that one", "--bundle: %s is there already", name)
	}
	if err != nil {
		return nil, makeFault("make the bundle", err)
	}
	return f, nil
}

// writeBundle puts what a bug report needs into f, and says on stderr what that is. flags are those of the command line. A file that
// could not be finished is removed.
func (d *diagnosis) writeBundle(ctx context.Context, f *os.File, findings []finding, flags []string) error {
	a := bundle.NewArchive(f, newRedactor(d.app), "dalirun-report", time.Now())
	err := errors.Join(d.collect(ctx, a, findings, flags), a.Close(), f.Close())
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return errors.Join(pipeline.Faultf(pipeline.Environment, "", "write the bundle %s: %w", f.Name(), err), os.Remove(f.Name()))
	}
	fmt.Fprintf(d.app.Stderr, "%s holds, with user names, home folders, credentials and GPUs' serial numbers taken out:\n", printable.Name(f.Name()))
	for _, file := range a.Files() {
		fmt.Fprintf(d.app.Stderr, "  %s\n", printable.Line(fmt.Sprint(file)))
	}
	fmt.Fprintln(d.app.Stderr, "Nothing else went in. Names of hosts stay. Look it through before you send it: tar -xzf "+printable.Name(filepath.Base(f.Name())))
	return nil
}

func newRedactor(a *App) *bundle.Redactor {
	name := a.env("USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return bundle.New(a.env("HOME"), name, os.Environ())
}

func (d *diagnosis) collect(ctx context.Context, a *bundle.Archive, findings []finding, flags []string) error {
	info, infoErr := d.info()
	return errors.Join(
		addJSON(a, "doctor.json", findings, nil),
		addJSON(a, "version.json", thisBuild(), nil),
		addJSON(a, "container-engine.json", info, infoErr),
		a.Add("flags.txt", strings.Join(flags, "\n")+"\n", ""),
		a.Add("environment.txt", environment(os.Environ()), ""),
		addFile(a, configFile, configFile),
		addSMI(ctx, a),
		d.addPlan(ctx, a),
		addRuns(a, d.wishes.workspace),
	)
}

func addJSON(a *bundle.Archive, name string, v any, why error) error {
	if why != nil {
		a.Missing(name, why)
		return nil
	}
	var b bytes.Buffer
	if err := writeJSON(&b, v); err != nil {
		return err
	}
	return a.Add(name, b.String(), "")
}

// addFile adds the end of a file. Only regular files are read: a link may lead anywhere.
func addFile(a *bundle.Archive, name, file string) error {
	text, size, err := tail(file)
	if err != nil {
		a.Missing(name, err)
		return nil
	}
	note := ""
	if size > int64(len(text)) {
		note = fmt.Sprintf("the end of %d bytes", size)
	}
	return a.Add(name, text, note)
}

// tail reads the last lines of a file, bundledTail bytes at most.
func tail(file string) (text string, size int64, err error) {
	about, err := os.Lstat(file)
	if err != nil {
		return "", 0, err
	}
	if !about.Mode().IsRegular() {
		return "", 0, fmt.Errorf("%s is no regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	from := max(about.Size()-bundledTail, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, bundledTail))
	if err != nil {
		return "", 0, err
	}
	text = string(data)
	if _, whole, ok := strings.Cut(text, "\n"); ok && from > 0 {
		text = whole
	}
	return text, about.Size(), nil
}

func addSMI(ctx context.Context, a *bundle.Archive) error {
	const name = "nvidia-smi.xml"
	text, err := host.Describe(ctx, host.Command)
	if err != nil {
		a.Missing(name, err)
		return nil
	}
	return a.Add(name, text, "")
}

// addPlan adds what `dalirun plan` says with the same flags, or why it says nothing.
func (d *diagnosis) addPlan(ctx context.Context, a *bundle.Archive) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bundleWithin, fmt.Errorf("no plan within %s", bundleWithin))
	defer cancel()
	var out, more bytes.Buffer
	var flags []string // the others plan has from the environment and the file too
	d.wishes.set.Visit(func(f *pflag.Flag) {
		if nearness(f) == onCommandLine {
			flags = append(flags, written(f)...)
		}
	})
	if d.wishes.image != "" {
		flags = append(flags, "--image="+stdinName) // it was read, and a pipe has its bytes once
	}
	plan := App{Stdin: bytes.NewReader(d.wishes.verify.Data), Stdout: &out, Stderr: &more, LookupEnv: d.app.LookupEnv, Environ: d.app.Environ}
	code := plan.Run(ctx, append([]string{"plan", "--format=json", "--progress=plain"}, flags...))
	err := a.Add("plan.json", out.String(), fmt.Sprintf("dalirun plan ended with %d", code))
	if more.Len() > 0 {
		err = errors.Join(err, a.Add("plan.stderr.txt", more.String(), ""))
	}
	return err
}

// addRuns adds the events and logs of the newest runs of a workspace.
func addRuns(a *bundle.Archive, workspace string) error {
	runs := owner.RunsDir(workspace)
	entries, err := os.ReadDir(runs)
	if err != nil {
		a.Missing("runs", err)
		return nil
	}
	slices.Reverse(entries) // a run's ID begins with its time
	var errs []error
	for _, run := range entries[:min(bundledRuns, len(entries))] {
		files, err := os.ReadDir(filepath.Join(runs, run.Name()))
		if err != nil {
			a.Missing(path.Join("runs", run.Name()), err)
			continue
		}
		for _, f := range files {
			if ext := filepath.Ext(f.Name()); f.Type().IsRegular() && (ext == ".log" || ext == ".jsonl" || ext == ".json" || ext == ".txt") {
				errs = append(errs, addFile(a, path.Join("runs", run.Name(), f.Name()), filepath.Join(runs, run.Name(), f.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// environment lists the variables that dalirun, the container engine's client and downloads go by. Those that may hold a secret by
// their name are not among them.
func environment(environ []string) string {
	known := []string{
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
		"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CI", "GITHUB_ACTIONS", "TERM", "NO_COLOR", "PATH",
	}
	var lines []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, envPrefix) || slices.Contains(known, strings.ToUpper(name)) { // proxies are written in small letters too
			lines = append(lines, variable+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// given are the flags of a command that were set, however, without those of its own output.
func given(cmd *cobra.Command) []string {
	var flags []string
	cmd.Flags().Visit(func(f *pflag.Flag) { flags = append(flags, written(f)...) })
	return flags
}

// written is a flag as it may stand on a command line. Those of doctor's own output are left out.
func written(f *pflag.Flag) (flags []string) {
	if f.Name == "bundle" || f.Name == "format" {
		return nil
	}
	values := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values = list.GetSlice()
	}
	for _, v := range values {
		flags = append(flags, "--"+f.Name+"="+v)
	}
	return flags
}
