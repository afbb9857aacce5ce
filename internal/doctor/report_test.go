package doctor_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/doctor"
)

// A bundle holds what a bug report needs, without the user's name and secrets, and says what it lacks.
func TestBundle(t *testing.T) {
	t.Parallel()
	p := patient(t, &machine{info: container.Info{Name: "Docker Engine", Version: "29.0.0"}})
	run := filepath.Join(p.Workspace, "runs", "20261127T140000Z-abcdef")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"export-onnx.log": "a line of the exporter\n", "lock": "not a log"} {
		if err := os.WriteFile(filepath.Join(run, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "report.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	x, findings := doctor.Examine(t.Context(), p)
	names, err := x.WriteBundle(t.Context(), f, doctor.Report{
		Findings: findings, Version: "1.2.3", Flags: []string{"--accel=cpu"}, Config: filepath.Join(t.TempDir(), "dalirun.yaml"),
		Environ: []string{"DALIRUN_ACCEL=cpu", "DOCKER_HOST=tcp://ada:hunter2@gpus:2376", "SECRET=hunter2", "HOME=/home/ada"},
		Plan:    func(context.Context) (stdout, stderr string, code int) { return "{}", "warning: none", 3 },
	}, bundle.New("/home/ada", "ada", []string{"SECRET=hunter2"}))
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, f.Name())
	for name, want := range map[string]string{
		"doctor.json": `"platform"`, "version.json": `"1.2.3"`, "container-engine.json": "Docker Engine", "flags.txt": "--accel=cpu",
		"environment.txt": "DALIRUN_ACCEL=cpu", "plan.json": "{}", "plan.stderr.txt": "warning: none", "export-onnx.log": "a line of the exporter",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %q", name, want, files[name])
		}
	}
	all := strings.Join(names, "\n")
	for _, note := range []string{"dalirun plan ended with 3", "dalirun.yaml"} {
		if !strings.Contains(all, note) {
			t.Errorf("nothing is said of %q: %s", note, all)
		}
	}
	for name, text := range files {
		if name == "lock" || strings.Contains(text, "hunter2") || strings.Contains(text, "/home/ada") {
			t.Errorf("%s went in with %q", name, text)
		}
	}
}

// A bundle of a command that was stopped is none.
func TestBundleOfAStoppedCommand(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "report.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	x, findings := doctor.Examine(t.Context(), patient(t, &machine{}))
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	_, err = x.WriteBundle(ctx, f, doctor.Report{
		Findings: findings, Plan: func(context.Context) (stdout, stderr string, code int) { return "", "", 130 },
	}, bundle.New("", "", nil))
	if !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}

// unpack returns the texts of an archive's files by their names.
func unpack(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Base(header.Name)] = string(text)
	}
}
