package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

// unbuilt is an adapter of another kind than Docker's: it builds no images, was found by no setting and keeps no
// connection.
func unbuilt(options *[]runtimeOptions) func(runtimeOptions) (container.Runtime, error) {
	return func(o runtimeOptions) (container.Runtime, error) {
		*options = append(*options, o)
		f := world{registry: errors.New("no images here")}.fake()
		f.Labels, f.About.Name, f.About.Arch = o.labels, "Kubernetes", "amd64"
		return f.NoBuilder(), nil
	}
}

// Where no images are built, plan, setup and doctor agree as in agree.txtar: the default run is one of NVIDIA's images, and
// local ones are refused before a step begins.
func TestAgreeWhereNothingIsBuilt(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	for flags, want := range map[string]struct {
		code  ExitCode
		words string
	}{
		"":                       {ExitOK, "images ngc"},
		"--images ngc":           {ExitOK, "images ngc"},
		"--images local":         {ExitEnvironment, "--images local: the container engine, Kubernetes, builds no images, and the local ones have to be built"},
		"--base-image debian:12": {ExitOK, "it is of the local images, and NVIDIA's are taken"},
	} {
		env := map[string]string{
			"DALIRUN_ACCEL": "cpu", "DALIRUN_WEIGHTS": "random:0", "DALIRUN_REGISTRY": s.Host(), "DALIRUN_RELEASE": "25.03", "XDG_CACHE_HOME": t.TempDir(),
			"DALIRUN_WORKSPACE": filepath.Join(t.TempDir(), ".dalirun"),
		}
		run := func(command string) (ExitCode, string, []runtimeOptions) {
			var out bytes.Buffer
			var asked []runtimeOptions
			a := appIn(env, &out, &out)
			a.adapter = unbuilt(&asked)
			code := a.Run(t.Context(), strings.Fields(command+" "+flags))
			return code, out.String(), asked
		}
		code, said, asked := run("plan")
		if code != want.code || !strings.Contains(said, want.words) {
			t.Errorf("plan %s: exit code %d\n%s", flags, code, said)
		}
		if len(asked) > 1 || len(asked) == 1 && asked[0].labels[container.LabelRun] == "" {
			t.Errorf("plan %s: adapters for %+v", flags, asked)
		}
		if code, said, _ := run("doctor"); code != want.code || want.code != ExitOK && !strings.Contains(said, want.words) {
			t.Errorf("doctor %s: exit code %d\n%s", flags, code, said)
		}
		if want.code == ExitOK {
			continue
		}
		if code, said, _ := run("setup"); code != want.code || strings.Contains(said, "exporter-image: ") {
			t.Errorf("setup %s: exit code %d\n%s", flags, code, said)
		}
	}
}

// An adapter that cannot be made says why, and doctor goes on with what needs none.
func TestNoAdapter(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{"ps": "no such thing", "doctor": "container engine  no such thing"} {
		var out bytes.Buffer
		a := appIn(map[string]string{"XDG_CACHE_HOME": t.TempDir()}, &out, &out)
		a.adapter = func(runtimeOptions) (container.Runtime, error) { return nil, errors.New("no such thing") }
		if code := a.Run(t.Context(), []string{command}); code == ExitOK || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d\n%s", command, code, &out)
		}
	}
}
