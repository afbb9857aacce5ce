package dockertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/container/docker"
)

func runtimeOf(t *testing.T, e *dockertest.Engine) *docker.Runtime {
	t.Helper()
	r, err := docker.New(docker.Options{Host: e.Host(), Home: t.TempDir(), Labels: container.Labels{container.LabelRun: "r1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return r
}

// The adapter sees through the engine what the fake's program does.
func TestContainer(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{About: container.Info{Version: "20.10.24"}}
	fake.AddLocal("greeter", containertest.Image{Main: func(_ context.Context, spec container.Spec, out container.Streams) int {
		_, _ = io.WriteString(out.Stdout, spec.Command[0]+" "+spec.Env["WHOM"]+"\n")
		_, _ = io.WriteString(out.Stderr, "and goodbye\n")
		return 3
	}})
	e := dockertest.New(t, fake)
	r := runtimeOf(t, e)
	info, err := r.Info(t.Context())
	if err != nil || info.Version != "20.10.24" || info.APIVersion != dockertest.APIVersion {
		t.Fatalf("Info = %+v, %v", info, err)
	}
	var stdout, stderr bytes.Buffer
	c, err := r.Run(t.Context(), container.Spec{
		Step: "greet", Image: "greeter", Command: []string{"hello"}, Env: map[string]string{"WHOM": "world"}, Network: container.NetworkNone,
	}, container.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 3 {
		t.Errorf("Wait = %+v, %v; want code 3", exit, err)
	}
	if stdout.String() != "hello world\n" || stderr.String() != "and goodbye\n" {
		t.Errorf("output = %q and %q", stdout.String(), stderr.String())
	}
	rows, err := r.List(t.Context(), container.Labels{container.LabelRun: "r1"})
	if err != nil || len(rows) != 1 || rows[0].Running {
		t.Errorf("List = %+v, %v; want one that ended", rows, err)
	}
	if err := r.Remove(t.Context(), c.ID()); err != nil {
		t.Error(err)
	}
	if left := e.Containers(); len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{OnPull: func(context.Context, string, func(container.Progress)) error {
		return errors.New(`Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host`)
	}}
	e := dockertest.New(t, fake)
	_, err := runtimeOf(t, e).Ensure(t.Context(), "registry.example/nvidia/pytorch:25.03-py3", nil)
	if !errors.Is(err, container.ErrRegistry) {
		t.Errorf("Pull = %v, want %v", err, container.ErrRegistry)
	}
	want := []string{"POST /images/create?fromImage=registry.example/nvidia/pytorch&tag=25.03-py3"}
	if diff := cmp.Diff(want, e.Requests()[1:]); diff != "" { // the first is the client's ping
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestStopOfOneThatWasLeft(t *testing.T) {
	t.Parallel()
	e := dockertest.New(t, &containertest.Fake{})
	id := e.Leave(container.Summary{Name: "old", Running: true, Labels: container.Labels{"a": "b"}})
	c, err := runtimeOf(t, e).Open(t.Context(), "old")
	if err != nil || c.ID() != id {
		t.Fatalf("Open = %v, %v; want %s", c, err, id)
	}
	if err := c.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	if left := e.Containers(); len(left) != 1 || left[0].Running {
		t.Errorf("containers = %+v; want one that ended", left)
	}
}
