package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

// unbuilt is an adapter of another kind than Docker's: it builds no images, was found by no setting and keeps no
// connection.
type unbuilt struct {
	options []runtimeOptions // of each runtime that was asked for
	fake    *containertest.Fake
}

func (u *unbuilt) adapter(o runtimeOptions) (container.Runtime, error) {
	u.options = append(u.options, o)
	u.fake = world{registry: errors.New("no images here")}.fake()
	u.fake.Labels, u.fake.About.Name, u.fake.About.Arch = o.labels, "Kubernetes", "amd64"
	return u.fake.NoBuilder(), nil
}

// Where no images are built, plan, setup and doctor agree as in agree.txtar: the default run is one of NVIDIA's images, and
// local ones are refused before a step begins.
func TestAgreeWhereNothingIsBuilt(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	const (
		unbuildable = "--images local: the container engine, Kubernetes, builds no images, and the local ones have to be built"
		unused      = "it is of the local images, and NVIDIA's are taken"
	)
	for flags, want := range map[string]struct {
		code  ExitCode
		words map[string]string // of a command
	}{
		"":                       {ExitOK, map[string]string{"plan": "images ngc", "doctor": "/nvidia/tritonserver:25.03-py3 (registry, "}},
		"--images ngc":           {ExitOK, map[string]string{"plan": "images ngc", "doctor": "/nvidia/tritonserver:25.03-py3 (registry, "}},
		"--images local":         {ExitEnvironment, map[string]string{"plan": unbuildable, "doctor": unbuildable}},
		"--base-image debian:12": {ExitOK, map[string]string{"plan": unused, "doctor": unused}},
	} {
		env := map[string]string{
			"DALIRUN_ACCEL": "cpu", "DALIRUN_WEIGHTS": "random:0", "DALIRUN_REGISTRY": s.Host(), "DALIRUN_RELEASE": "25.03", "XDG_CACHE_HOME": t.TempDir(),
			"DALIRUN_WORKSPACE": filepath.Join(t.TempDir(), ".dalirun"),
		}
		run := func(command string) (ExitCode, string, unbuilt) {
			var out bytes.Buffer
			var u unbuilt
			a := appIn(env, &out, &out)
			a.adapter = u.adapter
			code := a.Run(t.Context(), strings.Fields(command+" "+flags))
			return code, out.String(), u
		}
		for _, command := range []string{"plan", "doctor"} {
			code, said, u := run(command)
			if code != want.code || !strings.Contains(said, want.words[command]) {
				t.Errorf("%s %s: exit code %d\n%s", command, flags, code, said)
			}
			if len(u.options) != 1 || (u.options[0].labels[container.LabelRun] == "") != (command == "doctor") {
				t.Errorf("%s %s: adapters for %+v", command, flags, u.options)
			}
		}
		if want.code == ExitOK {
			continue
		}
		code, said, u := run("setup")
		if code != want.code || len(u.fake.Specs()) > 0 || len(u.fake.Builds()) > 0 || len(u.fake.Pulls()) > 0 {
			t.Errorf("setup %s: exit code %d, %d containers, %d builds, %d pulls\n%s", flags, code, len(u.fake.Specs()), len(u.fake.Builds()), len(u.fake.Pulls()), said)
		}
	}
}

// closing is a runtime with a connection.
type closing struct {
	*containertest.Fake

	closed *int
}

func (c closing) Close() error {
	*c.closed++
	return nil
}

// A runtime that keeps a connection is closed when the command has ended, whatever came of it.
func TestRuntimeIsClosed(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"ps", "stop", "logs", "plan --accel cpu --weights random:0", "doctor --accel cpu"} {
		var out bytes.Buffer
		made, closed := 0, 0
		a := appIn(map[string]string{"XDG_CACHE_HOME": t.TempDir(), "DALIRUN_WORKSPACE": filepath.Join(t.TempDir(), ".dalirun")}, &out, &out)
		a.adapter = func(runtimeOptions) (container.Runtime, error) {
			made++
			return closing{world{registry: errors.New("no images here")}.fake(), &closed}, nil
		}
		a.Run(t.Context(), strings.Fields(command))
		if made == 0 || closed != made {
			t.Errorf("%s: %d runtimes, of which %d are closed\n%s", command, made, closed, &out)
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
