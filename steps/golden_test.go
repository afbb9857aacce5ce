package steps_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name, or writes it there.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, got, 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run the test with -update and read what it wrote", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; run with -update if it should (-want +got):\n%s", file, diff)
	}
}

// goldenDir checks that testdata/dir holds no file of the pattern but the named ones.
func goldenDir(t *testing.T, dir, pattern string, names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(names, filepath.Base(file)) {
			t.Errorf("%s is of no step: delete it", file)
		}
	}
}

var errRecorded = errors.New("the spec is recorded")

// specs returns the Spec of each container that the steps of w run, in the order of the list.
func specs(t *testing.T, w *world) []container.Spec {
	t.Helper()
	// The server asks for the usual ports; the test does not take them.
	w.target.Ports.HTTP.Host, w.target.Ports.GRPC.Host, w.target.Ports.Metrics.Host = triton.PortHTTP, triton.PortGRPC, triton.PortMetrics
	w.target.Ports.GRPC.Required = true
	w.fake.OnCreate = func(_ context.Context, spec container.Spec) error {
		if spec.Step == string(steps.IDServe) {
			return errRecorded
		}
		return nil
	}
	for _, s := range w.list(steps.IDReference) {
		if err := w.run(t, t.Context(), s.ID()); err != nil && !errors.Is(err, errRecorded) {
			t.Fatalf("%s: %v", s.ID(), err)
		}
	}
	w.wantNoContainer(t)
	return w.fake.Specs()
}

// stable returns v's JSON with what differs from machine to machine or with every edit of a Dockerfile named instead.
func (w *world) stable(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(out.String(), w.dir, "{work}")
	text = regexp.MustCompile(`(dalirun/\w+):[0-9a-f]{12}"`).ReplaceAllString(text, `$1:{build}"`)
	text = regexp.MustCompile(`("io.dalirun.build": ")[0-9a-f]{64}"`).ReplaceAllString(text, `$1{build}"`)
	return []byte(text)
}

// TestSpecs holds what each step asks of the container runtime, so that a reviewer sees every change of it.
func TestSpecs(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var files []string
			for _, spec := range specs(t, w) {
				file := spec.Step + ".spec.json"
				if slices.Contains(files, file) {
					t.Errorf("%s runs two containers", spec.Step)
				}
				files = append(files, file)
				golden(t, name+"/"+file, w.stable(t, spec))
			}
			goldenDir(t, name, "*.spec.json", files)
		})
	}
}

// TestSpecsAreConfined checks on all of them what the golden files of a new step could get wrong.
func TestSpecsAreConfined(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.target.GPUs = container.GPUs{Devices: []string{"1"}}
			for _, spec := range specs(t, w) {
				for _, problem := range confinement(w, spec) {
					t.Errorf("%s: %s", spec.Step, problem)
				}
			}
		})
	}
}

// confinement says where a Spec grants more, or gives less, than its step needs.
func confinement(w *world, spec container.Spec) []string {
	var problems []string
	check := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, problem)
		}
	}
	serves := spec.Step == string(steps.IDServe)
	check(spec.ReadOnly && spec.Init && spec.Pids > 0 && spec.Shm >= 1<<30, "lacks a default")
	check(slices.Equal(slices.Collect(maps.Keys(spec.Tmpfs)), []string{"/tmp"}), "has another tmpfs than /tmp")
	for _, name := range []string{"HOME", "USER", "TORCH_HOME"} {
		check(spec.Env[name] != "", "lacks "+name)
	}
	check((spec.Network == container.NetworkPublish) == serves, "has the network "+string(spec.Network))
	check(spec.Role == container.RoleBatch, "has the role "+string(spec.Role)) // without Drain a server is its run's alone
	check((spec.Grace > 0) == serves && (len(spec.Publish) == 3) == serves, "has a grace or ports")
	for _, m := range spec.Outputs {
		check(m.Target == "/out", "writes to "+m.Target)
	}
	gpu := slices.Contains([]pipeline.ID{steps.IDBuildEngine, steps.IDSerializeDALI, steps.IDServe}, pipeline.ID(spec.Step))
	var want container.GPUs
	if gpu && w.target.Lane == target.GPU {
		want = w.target.GPUs
	}
	check(cmp.Equal(spec.GPUs, want), fmt.Sprintf("has the GPUs %q, not %q", spec.GPUs, want))
	return problems
}

// buildSpec is a BuildSpec without its texts.
type buildSpec struct {
	Tag     string            `json:"tag"`
	Files   []string          `json:"files"`
	Args    map[string]string `json:"args"`
	Labels  map[string]string `json:"labels"`
	Network string            `json:"network,omitempty"`
}

// TestBuilds holds how the local images are built.
func TestBuilds(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	w.make(t, steps.IDAssembleRepository)
	var files []string
	for _, b := range w.fake.Builds() {
		name := strings.TrimPrefix(strings.SplitN(b.Tag, ":", 2)[0], "dalirun/")
		files = append(files, name+"-image.build.json")
		golden(t, "cpu-local/"+files[len(files)-1], w.stable(t, buildSpec{
			Tag: b.Tag, Files: slices.Sorted(maps.Keys(b.Files)), Args: b.Args, Labels: b.Labels, Network: b.Network,
		}))
		if string(b.Files["ca-bundle.crt"]) != "certificates" || !strings.Contains(string(b.Dockerfile), "FROM ${BASE}") {
			t.Errorf("%s is built with the certificates %q from\n%s", name, b.Files["ca-bundle.crt"], b.Dockerfile)
		}
	}
	goldenDir(t, "cpu-local", "*.build.json", files)
	if len(files) != 2 {
		t.Errorf("built %v, want both images", files)
	}
}
