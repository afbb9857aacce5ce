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
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

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
	in := input{opened, dir, s.Times.Files}

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
	exact     time.Duration // how much a time may differ
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

// wantTime holds that a file was modified when the host's was, as exactly as the runtime keeps times.
func (i input) wantTime(t *testing.T, path string) {
	t.Helper()
	about, err := os.Stat(filepath.Join(i.folder, path))
	if err != nil {
		t.Fatal(err)
	}
	want := about.ModTime()
	got, code := i.probe(t, "modified", path)
	nanoseconds, err := strconv.ParseInt(got, 10, 64)
	if code != 0 || err != nil || time.Unix(0, nanoseconds).Sub(want).Abs() > i.exact {
		t.Errorf("%s was modified at %s (%d), want %d", path, got, code, want.UnixNano())
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
	if uid, ok := ownerOf(info); ok && uid != s.UID {
		t.Errorf("owned by %d, want %d", uid, s.UID)
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
