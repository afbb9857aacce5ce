package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
)

const (
	// bundledRuns is how many runs' logs go into a bundle: the failed one's, and those of later attempts.
	bundledRuns = 3
	// bundledTail is how much of the end of a log is read, in bytes. It is more than the archive takes of a file, so
	// that the archive notes that it left something out.
	bundledTail = 1 << 20
)

// Report holds what a bug report needs besides the examination.
type Report struct {
	Findings []Finding
	Version  any      // of dalirun
	Flags    []string // of the command, as on a command line
	Environ  []string // all variables, as NAME=value
	Config   string   // path of the configuration file
	// Plan returns the output of `dalirun plan` with the same flags, and its exit code.
	Plan func(context.Context) (stdout, stderr string, code int)
}

// WriteBundle writes a report to f as an archive, closes f, and returns the names of the files in it. After an error
// the caller removes the file.
func (x *Examination) WriteBundle(
	ctx context.Context, f *os.File, r Report, redactor *bundle.Redactor,
) ([]string, error) {
	a := bundle.NewArchive(f, redactor, "dalirun-report", time.Now())
	info, infoErr := x.info()
	err := errors.Join(
		addJSON(a, "doctor.json", r.Findings, nil),
		addJSON(a, "version.json", r.Version, nil),
		addJSON(a, "container-engine.json", info, infoErr),
		a.Add("flags.txt", strings.Join(r.Flags, "\n")+"\n", ""),
		a.Add("environment.txt", Environment(r.Environ), ""),
		addFile(a, r.Config, r.Config),
		addSMI(ctx, a),
		addPlan(ctx, a, r.Plan),
		x.addRuns(a),
	)
	err = errors.Join(err, a.Close(), f.Close())
	if err == nil {
		err = context.Cause(ctx)
	}
	var files []string
	for _, file := range a.Files() {
		files = append(files, fmt.Sprint(file))
	}
	return files, err
}

func addJSON(a *bundle.Archive, name string, v any, why error) error {
	if why != nil {
		a.Missing(name, why)
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return a.Add(name, string(printable.JSON(text))+"\n", "")
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

// addPlan adds the output of `dalirun plan` with the same flags, and its errors.
func addPlan(
	ctx context.Context, a *bundle.Archive, plan func(context.Context) (stdout, stderr string, code int),
) error {
	stdout, stderr, code := plan(ctx)
	err := a.Add("plan.json", stdout, fmt.Sprintf("dalirun plan ended with %d", code))
	if stderr != "" {
		err = errors.Join(err, a.Add("plan.stderr.txt", stderr, ""))
	}
	return err
}

// addRuns adds the events and logs of the newest runs of the workspace.
func (x *Examination) addRuns(a *bundle.Archive) error {
	runs := owner.RunsDir(x.Workspace)
	var entries []os.DirEntry
	err := x.SilentWorkspace
	if err == nil {
		entries, err = os.ReadDir(runs)
	}
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
			if ext := filepath.Ext(f.Name()); f.Type().IsRegular() &&
				(ext == ".log" || ext == ".jsonl" || ext == ".json" || ext == ".txt") {
				errs = append(errs, addFile(a, path.Join("runs", run.Name(), f.Name()),
					filepath.Join(runs, run.Name(), f.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// Environment lists the variables that dalirun, the container engine's client and downloads read. None of
// these has a name that says that it holds a secret.
func Environment(environ []string) string {
	known := []string{
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH",
		"DOCKER_API_VERSION", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "XDG_CACHE_HOME",
		"XDG_RUNTIME_DIR",
		"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "CI", "GITHUB_ACTIONS", "TERM", "NO_COLOR", "PATH",
	}
	var lines []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		// proxies are written in small letters too
		if strings.HasPrefix(name, target.EnvPrefix) || slices.Contains(known, strings.ToUpper(name)) {
			lines = append(lines, variable+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
