package containertest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

func testMissingMountSource(t *testing.T, s *suite) {
	t.Helper()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, field := range []string{"input", "output"} {
		spec := s.spec("exit", "0")
		mounts := []container.Mount{{Source: missing, Target: "/mnt/missing"}}
		if field == "input" {
			spec.Inputs = mounts
		} else {
			spec.Outputs = mounts
		}
		if _, err := s.Runner.Run(t.Context(), spec, container.Streams{}); err == nil {
			t.Errorf("%s: no error", field)
		} else if !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: the message does not name the path: %v", field, err)
		}
		if _, err := os.Lstat(missing); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the source was made: %v", field, err)
		}
	}
	s.wantNothingLeft(t)
}

// folder makes a folder that belongs to the caller.
func (s *suite) folder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // a mount's usual mode
		t.Fatal(err)
	}
	if err := os.Chown(dir, s.UID, s.GID); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *suite) file(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // see folder
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, s.UID, s.GID); err != nil {
		t.Fatal(err)
	}
}

func testInputs(t *testing.T, s *suite) {
	t.Helper()
	dir := s.folder(t, "ein Ordner, mit Ümläuten")
	s.file(t, filepath.Join(dir, "sub", "a.txt"), "content")
	single := filepath.Join(s.folder(t, "single"), "script.py")
	s.file(t, single, "script")

	spec := s.spec("read", "/in/sub/a.txt")
	spec.Inputs = []container.Mount{{Source: dir, Target: "/in"}, {Source: single, Target: "/job/script.py"}}
	if got := s.succeed(t, spec); got != "content" {
		t.Errorf("folder: %q", got)
	}
	spec.Command = []string{"read", "/job/script.py"}
	if got := s.succeed(t, spec); got != "script" {
		t.Errorf("file: %q", got)
	}
	for _, path := range []string{"/in/sub/a.txt", "/in/new.txt", "/job/script.py"} {
		spec.Command = []string{"write", path, "changed"}
		if exit, _, _ := s.finish(t, spec); exit.Code == 0 {
			t.Errorf("%s: an input could be written", path)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "sub", "a.txt")); err != nil || string(data) != "content" {
		t.Errorf("the input is now %q, %v", data, err)
	}
}

// testRefresh holds that a container sees what became of an input after its start, with its times, at the latest after
// Refresh: also through a handle that another process opened.
func testRefresh(t *testing.T, s *suite) {
	t.Helper()
	dir := s.folder(t, "models")
	s.file(t, filepath.Join(dir, "changes", "1", "weights"), "old")
	s.file(t, filepath.Join(dir, "goes", "1", "weights"), "old")
	s.file(t, filepath.Join(dir, "other"), "untouched")
	spec := s.spec("ignore")
	spec.Inputs = []container.Mount{{Source: dir, Target: "/in"}}
	started, _ := s.ready(t, spec)
	opened, err := s.Runner.Open(t.Context(), started.ID())
	if err != nil {
		t.Fatal(err)
	}
	in := input{opened, dir}

	s.replace(t, filepath.Join(dir, "changes", "1", "weights"), "new")
	s.file(t, filepath.Join(dir, "comes", "1", "weights"), "new")
	remove(t, filepath.Join(dir, "goes"))
	s.file(t, filepath.Join(dir, "goes"), "") // a file in the place of a folder
	in.refresh(t, "changes", "comes", "goes")
	in.want(t, "changes/1/weights", "new")
	in.want(t, "comes/1/weights", "new")
	in.want(t, "goes", "")
	in.want(t, "other", "untouched")
	in.wantTime(t, "changes/1/weights")
	in.wantTime(t, "changes/1")

	remove(t, filepath.Join(dir, "goes"))
	s.file(t, filepath.Join(dir, "goes", "1", "weights"), "again") // and a folder in the place of that
	s.replace(t, filepath.Join(dir, "other"), "changed")
	in.refresh(t, "goes", "other")
	in.want(t, "goes/1/weights", "again")
	in.want(t, "other", "changed")

	for _, path := range []string{"comes/1/weights", "comes/more", "more"} {
		if _, code := in.probe(t, "write", path, "changed"); code == 0 {
			t.Errorf("%s could be written", path)
		}
	}
	if err := errors.Join(opened.Stop(t.Context(), 0), s.Runner.Remove(t.Context(), opened.ID())); err != nil {
		t.Fatal(err)
	}
	err = opened.Refresh(t.Context(), container.Mount{Source: filepath.Join(dir, "other"), Target: "/in/other"})
	if !errors.Is(err, container.ErrNotFound) {
		t.Errorf("a container that is gone: %v", err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// input is an input at /in of a container that ignores all, and its folder.
type input struct {
	container container.Container
	folder    string
}

func (i input) refresh(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		m := container.Mount{Source: filepath.Join(i.folder, name), Target: "/in/" + name}
		if err := i.container.Refresh(t.Context(), m); err != nil {
			t.Errorf("refresh %s: %v", name, err)
		}
	}
}

// probe has the container do something with a path of the input.
func (i input) probe(t *testing.T, command, path string, args ...string) (stdout string, code int) {
	t.Helper()
	var out bytes.Buffer
	argv := append([]string{ProbePath, command, "/in/" + path}, args...)
	code, err := i.container.Exec(t.Context(), argv, container.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), code
}

func (i input) want(t *testing.T, path, content string) {
	t.Helper()
	if got, code := i.probe(t, "read", path); code != 0 || got != content {
		t.Errorf("%s: %q (%d), want %q", path, got, code, content)
	}
}

// wantTime holds that a file was modified when the host's was, to the nanosecond.
func (i input) wantTime(t *testing.T, path string) {
	t.Helper()
	about, err := os.Stat(filepath.Join(i.folder, path))
	if err != nil {
		t.Fatal(err)
	}
	want := strconv.FormatInt(about.ModTime().UnixNano(), 10)
	if got, code := i.probe(t, "modified", path); code != 0 || got != want {
		t.Errorf("%s was modified at %s (%d), want %s", path, got, code, want)
	}
}

// replace makes another file in the place of one, as a rename does.
func (s *suite) replace(t *testing.T, path, content string) {
	t.Helper()
	s.file(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// testNestedMounts holds that an output below an input works: a step's script beside its results.
func testNestedMounts(t *testing.T, s *suite) {
	t.Helper()
	in, out := s.folder(t, "in"), s.folder(t, "out")
	s.file(t, filepath.Join(in, "script.py"), "script")
	if err := os.Mkdir(filepath.Join(in, "out"), 0o755); err != nil { //nolint:gosec // a mount point
		t.Fatal(err)
	}
	spec := s.spec("write", "/job/out/result", "made")
	spec.Inputs = []container.Mount{{Source: in, Target: "/job"}}
	spec.Outputs = []container.Mount{{Source: out, Target: "/job/out"}}
	s.succeed(t, spec)
	if data, err := os.ReadFile(filepath.Join(out, "result")); err != nil || string(data) != "made" {
		t.Errorf("got %q, %v", data, err)
	}
}

func testOutputs(t *testing.T, s *suite) {
	t.Helper()
	dir := s.folder(t, "out put")
	s.file(t, filepath.Join(dir, "old.txt"), "old")
	spec := s.spec("write", "/out/new.txt", "new")
	spec.Outputs = []container.Mount{{Source: dir, Target: "/out"}}
	s.succeed(t, spec)

	path := filepath.Join(dir, "new.txt")
	if data, err := os.ReadFile(path); err != nil || string(data) != "new" {
		t.Fatalf("got %q, %v", data, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != s.UID {
		t.Errorf("owned by %d, want %d", stat.Uid, s.UID)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "old.txt")); err != nil || string(data) != "old" {
		t.Errorf("what was there before is now %q, %v", data, err)
	}
}

func testReadOnlyRoot(t *testing.T, s *suite) {
	t.Helper()
	spec := s.spec("write", "/open/new.txt", "x")
	if exit, _, stderr := s.finish(t, spec); exit.Code == 0 {
		t.Error("the root file system could be written")
	} else if !strings.Contains(stderr, syscall.EROFS.Error()) {
		t.Errorf("refused for another reason: %s", stderr)
	}
	spec.ReadOnly = false
	s.succeed(t, spec)
	s.succeed(t, s.spec("write", "/tmp/new.txt", "x"))
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
