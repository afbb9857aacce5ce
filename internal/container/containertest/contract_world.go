package containertest

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
)

func itoa(n int) string { return strconv.Itoa(n) }

func testInfo(t *testing.T, s *suite) {
	t.Helper()
	info, err := s.Runner.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Endpoint == "" || info.Name == "" || info.Version == "" || info.CPUs < 1 || info.Memory < 1 ||
		info.RootDir == "" {
		t.Errorf("incomplete: %+v", info)
	}
	if info.Arch != "amd64" && info.Arch != "arm64" {
		t.Errorf("arch %q is not one of Go's names", info.Arch)
	}
	if _, builds := s.Runner.(container.Builder); builds == info.NoBuilder {
		t.Errorf("it is a container.Builder: %t, and says NoBuilder: %t", builds, info.NoBuilder)
	}
}

func testImage(t *testing.T, s *suite) {
	t.Helper()
	img, err := s.Images.Resolve(t.Context(), s.Image)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(img.ID, "sha256:") || img.Env["PROBE"] != "image" || img.Created.IsZero() {
		t.Errorf("incomplete: %+v", img)
	}
	byID, err := s.Images.Resolve(t.Context(), img.ID)
	if err != nil || byID.ID != img.ID {
		t.Errorf("by ID: %+v, %v", byID, err)
	}
}

// unknownImage is nowhere.
const unknownImage = "dalirun.test/no-such-image:never"

func testAbsentImage(t *testing.T, s *suite) {
	t.Helper()
	if _, err := s.Images.Resolve(t.Context(), unknownImage); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func testEnvironment(t *testing.T, s *suite) {
	t.Helper()
	spec := s.spec("env", "PROBE")
	if got := s.succeed(t, spec); got != "image\n" {
		t.Errorf("the image's own: %q", got)
	}
	const value = "with = and  'quotes' and ü"
	spec.Env = map[string]string{"PROBE": value, "OTHER": ""}
	if got := s.succeed(t, spec); got != value+"\n" {
		t.Errorf("set: %q", got)
	}
}

func testUser(t *testing.T, s *suite) {
	t.Helper()
	info, err := s.Runner.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := itoa(s.UID) + ":" + itoa(s.GID) + "\n"
	if info.Rootless {
		want = "0:0\n"
	}
	if got := s.succeed(t, s.spec("ids")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testExec(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	var stdout, stderr bytes.Buffer
	code, err := c.Exec(t.Context(), []string{ProbePath, "print", "out", "err"},
		container.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil || code != 0 || stdout.String() != "out" || stderr.String() != "err" {
		t.Errorf("got %d, %v, %q, %q", code, err, stdout.String(), stderr.String())
	}
	code, err = c.Exec(t.Context(), []string{ProbePath, "exit", "9"}, container.Streams{})
	if err != nil || code != 9 {
		t.Errorf("got %d, %v", code, err)
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), []string{ProbePath, "exit", "0"}, container.Streams{}); err == nil {
		t.Error("no error from a container that ended")
	}
}

func testExecMissingCommand(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	code, err := c.Exec(t.Context(), []string{"/no/such/command"}, container.Streams{})
	if err == nil && code == 0 {
		t.Error("a missing command succeeded")
	}
}

func testOpen(t *testing.T, s *suite) {
	t.Helper()
	started, _ := s.ready(t, s.server(container.Port{Container: probePort}))
	for _, id := range []string{started.ID(), started.Name()} {
		c, err := s.Runner.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if c.ID() != started.ID() || c.Name() != started.Name() {
			t.Errorf("opened %s as %s %s", id, c.ID(), c.Name())
		}
		if _, text := readGreeting(t.Context(), t, c); text != "hello" {
			t.Errorf("says %q", text)
		}
	}
	c, err := s.Runner.Open(t.Context(), started.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != codeKilled {
		t.Errorf("the opener sees %+v", exit)
	}
	if exit := s.wait(t, started); exit.Code != codeKilled {
		t.Errorf("the starter sees %+v", exit)
	}
}

func testOpenUnknown(t *testing.T, s *suite) {
	t.Helper()
	if _, err := s.Runner.Open(t.Context(), "dalirun-that-never-was"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func testBuild(t *testing.T, s *suite) {
	t.Helper()
	lines := 0
	img, err := s.Builder.Build(t.Context(), container.BuildSpec{
		Tag:        s.Image + "-built",
		Dockerfile: []byte("ARG BASE\nFROM $BASE\nENV BUILT=yes\nCOPY data.txt /data.txt\n"),
		Files:      map[string][]byte{"data.txt": []byte("built in")},
		Args:       map[string]string{"BASE": s.Image},
		Labels:     container.Labels{container.LabelBuild: "sha256:0"},
	}, func(container.Progress) { lines++ })
	if err != nil {
		t.Fatal(err)
	}
	if lines == 0 {
		t.Error("no progress")
	}
	if img.Labels[container.LabelBuild] != "sha256:0" || img.Env["BUILT"] != "yes" {
		t.Errorf("got %+v", img)
	}
	local, err := s.Images.Resolve(t.Context(), s.Image+"-built")
	if err != nil || local.ID != img.ID {
		t.Errorf("the tag names %s (%v), not %s", local.ID, err, img.ID)
	}
}

func testFailingBuild(t *testing.T, s *suite) {
	t.Helper()
	_, err := s.Builder.Build(t.Context(), container.BuildSpec{
		Tag: s.Image + "-broken",
		Dockerfile: []byte("ARG BASE\nFROM $BASE\n" +
			"RUN [\"/probe\", \"print\", \"said before it failed\", \"x\"]\n" +
			"RUN [\"/probe\", \"exit\", \"3\"]\n"),
		Args: map[string]string{"BASE": s.Image},
	}, nil)
	failed, ok := errors.AsType[*container.BuildError](err)
	if !ok {
		t.Fatalf("got %v, want a BuildError", err)
	}
	if !strings.Contains(strings.Join(failed.Tail, "\n"), "said before it failed") || failed.Reason == "" {
		t.Errorf("reason %q, tail %q", failed.Reason, failed.Tail)
	}
	if _, err := s.Images.Resolve(t.Context(), s.Image+"-broken"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("the failed build made an image: %v", err)
	}
}

func testCommandLine(t *testing.T, s *suite) {
	t.Helper()
	line := s.Runner.Repeat(s.spec("exit", "0"))
	if !strings.Contains(line, s.Image) || strings.Contains(line, "\n") {
		t.Errorf("got %q", line)
	}
}
