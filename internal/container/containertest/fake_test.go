package containertest_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	containertest.TestRunner(t, newFake)
	containertest.TestImages(t, newFake)
	containertest.TestBuilder(t, newFake)
}

func TestFakeWithoutBuilder(t *testing.T) {
	t.Parallel()
	newEnv := func(t *testing.T) containertest.Env {
		t.Helper()
		env, f := newFakeEnv(t)
		r := f.NoBuilder()
		env.Runner, env.Images, env.Builder = r, r, nil
		return env
	}
	containertest.TestRunner(t, newEnv)
	containertest.TestDial(t, newEnv)
	containertest.TestImages(t, newEnv)
}

func TestFakeWithCopies(t *testing.T) {
	t.Parallel()
	containertest.TestRunner(t, func(t *testing.T) containertest.Env {
		t.Helper()
		env, f := newFakeEnv(t)
		f.Copies = t.TempDir()
		return env
	})
}

func TestFakeDial(t *testing.T) {
	t.Parallel()
	containertest.TestDial(t, newFake)
}

func newFake(t *testing.T) containertest.Env {
	t.Helper()
	env, _ := newFakeEnv(t)
	return env
}

func newFakeEnv(t *testing.T) (containertest.Env, *containertest.Fake) {
	t.Helper()
	f := &containertest.Fake{
		About: container.Info{
			Endpoint: "fake://", Name: "Fake", Version: "1", Arch: "amd64", CPUs: 1, Memory: 1 << 30, RootDir: t.TempDir(),
		},
		Labels:  container.Labels{container.LabelRun: "fake"},
		OnBuild: build,
	}
	f.AddLocal("probe", containertest.ProbeImage())
	f.AddLocal("broken", containertest.Image{})
	return containertest.Env{
		Runner: f, Images: f, Builder: f, Pause: f.Pause,
		Image: "probe", Broken: "broken", Labels: f.Labels, UID: os.Getuid(), GID: os.Getgid(),
	}, f
}

// build understands the two Dockerfiles of the contract.
func build(_ context.Context, spec container.BuildSpec, onProgress func(container.Progress)) (containertest.Image, error) {
	onProgress(container.Progress{Text: "Step 1/2"})
	if strings.Contains(string(spec.Dockerfile), "exit") {
		return containertest.Image{}, &container.BuildError{
			Tag: spec.Tag, Reason: "returned a non-zero code: 3", Tail: []string{"said before it failed"},
		}
	}
	img := containertest.ProbeImage()
	img.Labels = spec.Labels
	img.Env = map[string]string{"BUILT": "yes"}
	return img, nil
}

func TestFakeInjectsFailures(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	fail := func(context.Context, container.Spec) error { return boom }
	for name, f := range map[string]*containertest.Fake{
		"create": {OnCreate: fail},
		"start":  {OnStart: fail},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.AddLocal("probe", containertest.ProbeImage())
			spec := container.Spec{Step: "s", Image: "probe", Command: []string{"exit", "0"}}
			if _, err := f.Run(t.Context(), spec, container.Streams{}); !errors.Is(err, boom) {
				t.Errorf("got %v", err)
			}
			if left := f.Leaked(); len(left) != 0 {
				t.Errorf("leaked %+v", left)
			}
			if diff := cmp.Diff([]container.Spec{spec}, f.Specs()); diff != "" {
				t.Errorf("specs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFakePull(t *testing.T) {
	t.Parallel()
	f := &containertest.Fake{}
	f.AddRemote("registry/there:1", containertest.Image{Image: container.Image{Digest: "sha256:1", Size: 7}})
	if _, err := f.Resolve(t.Context(), "registry/there:1"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("before the pull: %v", err)
	}
	var last container.Progress
	img, err := f.Ensure(t.Context(), "registry/there:1", func(p container.Progress) { last = p })
	if err != nil || img.Digest != "sha256:1" || last.Current != 7 {
		t.Errorf("got %+v, %v, %+v", img, err, last)
	}
	if _, err := f.Ensure(t.Context(), "registry/missing:1", nil); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if diff := cmp.Diff([]string{"registry/there:1", "registry/missing:1"}, f.Pulls()); diff != "" {
		t.Error(diff)
	}
	f.Prune("registry/there:1")
	if _, err := f.Resolve(t.Context(), "registry/there:1"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("after the prune: %v", err)
	}
}

// TestFakeLeaks holds that the fake sees what its users forget.
func TestFakeLeaks(t *testing.T) {
	t.Parallel()
	f := &containertest.Fake{}
	f.AddLocal("probe", containertest.ProbeImage())
	c, err := f.Run(t.Context(), container.Spec{Step: "s", Image: "probe", Command: []string{"wait"}}, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if left := f.Leaked(); len(left) != 1 || left[0].ID != c.ID() || !left[0].Running {
		t.Errorf("got %+v", left)
	}
	if err := f.Remove(t.Context(), c.ID()); err != nil {
		t.Fatal(err)
	}
	if left := f.Leaked(); len(left) != 0 {
		t.Errorf("after removal: %+v", left)
	}
}

// TestFakeIgnoresTermWithoutInit holds that the fake is as strict as a kernel is to PID 1.
func TestFakeIgnoresTermWithoutInit(t *testing.T) {
	t.Parallel()
	f := &containertest.Fake{}
	f.AddLocal("probe", containertest.ProbeImage())
	c, err := f.Run(t.Context(), container.Spec{Step: "s", Image: "probe", Command: []string{"wait"}}, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 128+int(syscall.SIGKILL) {
		t.Errorf("got %+v, %v", exit, err)
	}
}

func TestHostPath(t *testing.T) {
	t.Parallel()
	spec := container.Spec{
		Inputs:  []container.Mount{{Source: "/host/in", Target: "/job"}},
		Outputs: []container.Mount{{Source: "/host/out", Target: "/job/out"}},
	}
	for inside, want := range map[string]struct {
		host     string
		writable bool
		err      error
	}{
		"/job":           {"/host/in", false, nil},
		"/job/a/../b":    {"/host/in/b", false, nil},
		"/job/out/model": {"/host/out/model", true, nil},
		"/job/output":    {"/host/in/output", false, nil},
		"/jobless":       {"", false, syscall.ENOENT},
	} {
		host, writable, err := containertest.HostPath(spec, inside)
		if host != want.host || writable != want.writable || !errors.Is(err, want.err) {
			t.Errorf("%s: got %q, %t, %v, want %+v", inside, host, writable, err, want)
		}
	}
}

// What is not there is not paused.
func TestFakePause(t *testing.T) {
	t.Parallel()
	f := &containertest.Fake{}
	if err := f.Pause(t.Context(), "x"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Pause(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
