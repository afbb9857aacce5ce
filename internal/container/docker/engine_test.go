//go:build integration

package docker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/needtest"
)

// TestEngine holds what the contract does not say of every runtime.
func TestEngine(t *testing.T) {
	t.Parallel()
	testEngine(t, newEngine(t))
}

// TestEngineOnPodman is TestEngine on a Podman that scripts/podman.sh has started.
func TestEngineOnPodman(t *testing.T) {
	t.Parallel()
	testEngine(t, newPodman(t))
}

func testEngine(t *testing.T, e engine) {
	t.Helper()
	all := map[string]func(*testing.T, engine){
		"copy for another user": testCopyForAnotherUser,
		"copy beside the image": testCopyBesideTheImage,
		"cancelled build":       testCancelledBuild,
		"short outputs":         testShortOutputs,
		"log rotation":          testLogRotation,
		"taken by a container":  testTakenByContainer,
		"command line":          testCommandLineRuns,
	}
	if e.podman {
		// It gives a volume what the image has there at the first start, and only if the volume is empty.
		delete(all, "copy beside the image")
	}
	for name, test := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

func probeSpec(e engine, command ...string) container.Spec {
	return container.Spec{
		Step: "probe", Image: e.image, Command: command, Network: container.NetworkNone,
		ReadOnly: true, Init: true, Role: container.RoleBatch,
	}
}

// finish runs spec to its end and removes it.
func finish(t *testing.T, r container.Runner, spec container.Spec, stdout io.Writer) {
	t.Helper()
	var stderr bytes.Buffer
	c, err := r.Run(t.Context(), spec, container.Streams{Stdout: stdout, Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := c.Wait(t.Context())
	if err != nil || exit.Code != 0 {
		t.Errorf("%q: %+v, %v: %s", spec.Command, exit, err, stderr.String())
	}
	if err := r.Remove(t.Context(), c.ID()); err != nil {
		t.Error(err)
	}
}

// testCopyForAnotherUser holds that volumes belong to whom the container runs as, whoever fills them.
func testCopyForAnotherUser(t *testing.T, e engine) {
	t.Helper()
	r := e.env(t, docker.Options{UID: otherUser, GID: otherUser, Transfer: docker.TransferCopy}).Runner
	in, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "private"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := probeSpec(e, "write", "/in/deep/out/new", "made")
	// The folder of the inner mount is not there before: a bind mount would have it made by the engine, or not.
	spec.Inputs = []container.Mount{{Source: in, Target: "/in"}}
	spec.Outputs = []container.Mount{{Source: out, Target: "/in/deep/out"}}
	finish(t, r, spec, nil)
	if data, err := os.ReadFile(filepath.Join(out, "new")); err != nil || string(data) != "made" {
		t.Errorf("got %q, %v", data, err)
	}
	var stdout bytes.Buffer
	spec.Command = []string{"read", "/in/private"}
	finish(t, r, spec, &stdout)
	if stdout.String() != "content" {
		t.Errorf("read %q", stdout.String())
	}
}

// testCopyBesideTheImage holds that a single file does not hide what the image has beside it.
func testCopyBesideTheImage(t *testing.T, e engine) {
	t.Helper()
	env := e.env(t, docker.Options{UID: otherUser, GID: otherUser, Transfer: docker.TransferCopy})
	tag := e.image + "-beside"
	_, err := env.Builder.Build(t.Context(), container.BuildSpec{
		Tag: tag, Dockerfile: []byte("ARG BASE\nFROM $BASE\nCOPY old /job/old\n"), Args: map[string]string{"BASE": e.image},
		Files: map[string][]byte{"old": []byte("of the image")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/job/old": "of the image", "/job/new": "of the host"} {
		var stdout bytes.Buffer
		spec := probeSpec(e, "read", path)
		spec.Image = tag
		spec.Inputs = []container.Mount{{Source: script, Target: "/job/new"}}
		finish(t, env.Runner, spec, &stdout)
		if stdout.String() != want {
			t.Errorf("%s: got %q, want %q", path, stdout.String(), want)
		}
	}
}

func testCancelledBuild(t *testing.T, e engine) {
	t.Helper()
	r := newRuntime(t, docker.Options{Host: e.host})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := r.Build(ctx, container.BuildSpec{
		Tag: e.image + "-cancelled", Dockerfile: []byte("ARG BASE\nFROM $BASE\nENV CANCELLED=yes\nRUN [\"/probe\", \"ignore\"]\n"),
		Args: map[string]string{"BASE": e.image},
	}, func(p container.Progress) {
		if p.Text == "ready" { // the probe says so
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The engine removes the container of the step by itself.
	c := e.sdk(t)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		rows, err := c.ContainerList(t.Context(), dcontainer.ListOptions{
			All: true, Filters: filters.NewArgs(filters.Arg("label", "contract="+e.image)),
		})
		if err != nil {
			t.Fatal(err)
		}
		building := 0
		for _, row := range rows {
			if row.Labels[container.LabelRun] == "" && strings.Contains(row.Command, "ignore") {
				building++
			}
		}
		if building == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("still there: %+v", rows)
		}
	}
}

// testShortOutputs holds against engines whose followed log ends before what was written last.
func testShortOutputs(t *testing.T, e engine) {
	t.Helper()
	r := e.env(t, docker.Options{}).Runner
	for range 20 {
		var stdout bytes.Buffer
		finish(t, r, probeSpec(e, "print", "all of it", ""), &stdout)
		if stdout.String() != "all of it" {
			t.Errorf("got %q", stdout.String())
		}
	}
}

// testLogRotation holds that a log larger than the engine keeps arrives whole at a reader that keeps up.
func testLogRotation(t *testing.T, e engine) {
	t.Helper()
	const bytes = 60 << 20 // in lines of 80, which the engine's log makes twice as long
	r := e.env(t, docker.Options{}).Runner
	var n counter
	finish(t, r, probeSpec(e, "flood", strconv.Itoa(bytes), "last"), &n)
	if n != bytes+4 {
		t.Errorf("got %d bytes, want %d", n, bytes+4)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func testTakenByContainer(t *testing.T, e engine) {
	t.Helper()
	r := e.env(t, docker.Options{}).Runner
	spec := probeSpec(e, "serve", "8001", "hello")
	spec.Network, spec.Publish = container.NetworkPublish, []container.Port{{Container: 8001}}
	first, err := r.Run(t.Context(), spec, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Remove(context.WithoutCancel(t.Context()), first.ID()); err != nil {
			t.Error(err)
		}
	}()
	addr, err := first.Addr(t.Context(), 8001)
	if err != nil {
		t.Fatal(err)
	}
	spec.Publish[0] = container.Port{Container: 8001, Host: addr.Port(), Required: true}
	_, err = r.Run(t.Context(), spec, container.Streams{})
	if !errors.Is(err, container.ErrPortTaken) || !strings.Contains(err.Error(), first.Name()) {
		t.Errorf("got %v, want one that names %s", err, first.Name())
	}
}

// testCommandLineRuns runs a printed line by a shell, where there is a docker command.
func testCommandLineRuns(t *testing.T, e engine) {
	t.Helper()
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "out put, $HOME's")
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(out, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	r := e.env(t, docker.Options{UID: otherUser, GID: otherUser}).Runner
	if _, err := r.Info(t.Context()); err != nil { // as before each run: a line is of this engine
		t.Fatal(err)
	}
	spec := probeSpec(e, "write", "/out/it's", "$made\t'here'")
	spec.Inputs = []container.Mount{{Source: in, Target: "/in"}}
	spec.Outputs = []container.Mount{{Source: out, Target: "/out"}}
	spec.Tmpfs = map[string]int64{"/tmp": 1 << 20}
	spec.Env = map[string]string{"A": "b c"}
	spec.Memory, spec.Pids, spec.Shm, spec.Grace = 64<<20, 64, 1<<20, time.Second
	shell(t, r.Repeat(spec))
	if data, err := os.ReadFile(filepath.Join(out, "it's")); err != nil || string(data) != "$made\t'here'" {
		t.Errorf("got %q, %v", data, err)
	}
}

func shell(t *testing.T, line string) {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		needtest.Missing(t, "there is no docker command here: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v: %s", line, err, out)
	}
}
