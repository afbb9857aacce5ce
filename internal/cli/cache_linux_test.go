package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/needtest"
)

// everybodys is a folder like /tmp, and a user of it.
type everybodys struct {
	tmp, home string
	coverage  string // where the user's programs say what they covered, which would be a warning on stderr otherwise
	uid       int
}

// newEverybodys returns a folder in which root, or another one than the user, was first.
func newEverybodys(t *testing.T) everybodys {
	t.Helper()
	dir := t.TempDir()
	e := everybodys{tmp: filepath.Join(dir, "tmp"), home: filepath.Join(dir, "home"), coverage: filepath.Join(dir, "coverage"), uid: os.Getuid()}
	if e.uid == 0 {
		e.uid = 65534
	}
	errs := []error{os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Mkdir(e.tmp, 0o700), os.Chmod(e.tmp, 0o777|fs.ModeSticky), os.Mkdir(e.home, 0o700), os.Mkdir(e.coverage, 0o700)}
	if err := errors.Join(append(errs, os.Chown(e.home, e.uid, e.uid), os.Chown(e.coverage, e.uid, e.uid))...); err != nil {
		t.Fatal(err)
	}
	return e
}

// gc has the user run dalirun gc, which opens the cache and then finds no container engine.
func (e everybodys) gc(t *testing.T, env []string, args ...string) (code ExitCode, stderr string) {
	t.Helper()
	cmd := e.command(t, env, append([]string{"gc"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ExitCode(cmd.ProcessState.ExitCode()), said.String()
}

// command is dalirun as the user runs it.
func (e everybodys) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0], cmd.Dir = "dalirun", e.home
	cmd.Env = append([]string{"DOCKER_HOST=unix://" + e.home + "/no.sock", "TMPDIR=" + e.tmp, "GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + e.coverage}, env...)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(e.uid), Gid: uint32(e.uid)}}
	}
	return cmd
}

// caches are the folders below everybody's that are caches.
func (e everybodys) caches(t *testing.T) []string {
	t.Helper()
	tags, err := filepath.Glob(filepath.Join(e.tmp, "*", "CACHEDIR.TAG"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tag := range tags {
		info, err := os.Lstat(filepath.Dir(tag))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", filepath.Dir(tag), info, err)
		}
		names = append(names, info.Name())
	}
	return names
}

// TestCacheAmongEverybodys checks that a cache below a folder like /tmp is used only if nobody else can have made or altered it, and that a
// fresh one in its place is found again.
func TestCacheAmongEverybodys(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first func(path string, uid int) error // what was there before
		root  bool                             // only root can make it
		why   string                           // empty: it is used
	}{
		"nothing":        {func(string, int) error { return nil }, false, ""},
		"ours":           {func(path string, uid int) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, uid, uid)) }, false, ""},
		"another user's": {func(path string, _ int) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 4711, 4711)) }, true, "belongs to another user, 4711,"},
		"root's":         {func(path string, _ int) error { return os.Mkdir(path, 0o700) }, true, "belongs to another user, 0,"},
		"others may write": {func(path string, uid int) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777), os.Chown(path, uid, uid))
		}, false, "its mode is 0777"},
		"others may read": {func(path string, uid int) error {
			return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755), os.Chown(path, uid, uid))
		}, false, "its mode is 0755"},
		"a link to our own": {func(path string, uid int) error {
			return errors.Join(os.Symlink("../home", path), os.Lchown(path, uid, uid))
		}, false, "is a symbolic link"},
		"a link to nothing": {func(path string, _ int) error { return os.Symlink("../home/new", path) }, false, "is a symbolic link"},
		"another's file": {func(path string, _ int) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 4711, 4711))
		}, true, "belongs to another user, 4711,"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.root && os.Getuid() != 0 {
				needtest.Missing(t, "only root can make what is another user's")
			}
			e := newEverybodys(t)
			guessed := fmt.Sprintf("dalirun-%d", e.uid)
			if err := tt.first(filepath.Join(e.tmp, guessed), e.uid); err != nil {
				t.Fatal(err)
			}
			var used []string
			for range 2 {
				code, stderr := e.gc(t, nil)
				warned := strings.Contains(stderr, "warning: the cache "+filepath.Join(e.tmp, guessed)+" is not used: ") && strings.Contains(stderr, tt.why) &&
					strings.Contains(stderr, "name one of your own with --cache-dir, or set HOME")
				if code != ExitEnvironment || warned != (tt.why != "") {
					t.Errorf("it ended with %d; stderr:\n%s", code, stderr)
				}
				now := e.caches(t)
				if len(now) != 1 || (now[0] == guessed) != (tt.why == "") || !strings.HasPrefix(now[0], guessed) || used != nil && !slices.Equal(now, used) {
					t.Errorf("the caches are %q, before %q", now, used)
				}
				used = now
			}
			if left, err := os.ReadDir(e.home); err != nil || len(left) != 0 {
				t.Errorf("through the link came %v, %v", left, err)
			}
		})
	}
}

// A home in everybody's folder, as containers have it, is no better. What a user named is never replaced.
func TestCacheBelowEverybodys(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can make what is another user's")
	}
	e := newEverybodys(t)
	theirs := filepath.Join(e.tmp, ".cache")
	if err := errors.Join(os.Mkdir(theirs, 0o777), os.Chmod(theirs, 0o777), os.Chown(theirs, 4711, 4711)); err != nil {
		t.Fatal(err)
	}
	code, stderr := e.gc(t, []string{"HOME=" + e.tmp})
	if code != ExitEnvironment || !strings.Contains(stderr, "warning: the cache "+theirs+"/dalirun is not used: "+theirs+" belongs to another user, 4711,") {
		t.Errorf("it ended with %d; stderr:\n%s", code, stderr)
	}
	if caches := e.caches(t); len(caches) != 1 {
		t.Errorf("the caches are %q", caches)
	}
	doctor := e.command(t, []string{"HOME=" + e.tmp}, "doctor", "--accel", "cpu", "--weights", "random:0", "--workspace", "w")
	said, err := doctor.Output()
	if warned := "the cache " + theirs + "/dalirun is not used: "; doctor.ProcessState.ExitCode() != int(ExitEnvironment) || // there is no container engine
		!regexp.MustCompile("(?m)^warn  cache disk .*"+regexp.QuoteMeta(warned)).Match(said) {
		t.Errorf("doctor: %v\n%s", err, said)
	}
	for _, tt := range []struct {
		args []string
		code ExitCode
		want string
	}{
		{[]string{"--cache-dir", theirs + "/mine"}, ExitEnvironment, "the cache " + theirs + "/mine is not safe: " + theirs + " belongs to another user"},
		{[]string{"--workspace", theirs + "/w"}, ExitEnvironment, "the workspace " + theirs + "/w is not safe: " + theirs + " belongs to another user"},
	} {
		code, stderr := e.gc(t, []string{"HOME=" + e.home}, tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "hint: name a folder of your own with "+tt.args[0]) {
			t.Errorf("%v ended with %d; stderr:\n%s", tt.args, code, stderr)
		}
		if left, err := os.ReadDir(theirs); err != nil || len(left) != 0 {
			t.Errorf("%v: it made %v, %v", tt.args, left, err)
		}
	}

	file := filepath.Join(e.tmp, config.File)
	if err := errors.Join(os.WriteFile(file, []byte("cache-size: 1\n"), 0o600), os.Chmod(file, 0o644)); err != nil { // root's: the user did not write it
		t.Fatal(err)
	}
	e.home = e.tmp // the current folder
	code, stderr = e.gc(t, []string{"HOME=" + e.home})
	if code != ExitEnvironment || !strings.Contains(stderr, "the configuration "+file+" is not safe: "+file+" belongs to another user, 0,") ||
		!strings.Contains(stderr, "hint: run dalirun in a folder of your own") {
		t.Errorf("it ended with %d; stderr:\n%s", code, stderr)
	}
}

// TestOpenFolder checks that a folder that others may write is told of with the command that mends it, and only where there is something to alter.
func TestOpenFolder(t *testing.T) {
	t.Parallel()
	const rule = "`dalirun` refuses (3) a `dalirun.yaml`, a named cache or a workspace that other users could change, and says what mends it."
	if readme, err := os.ReadFile(filepath.Join(docsDir, "..", "README.md")); err != nil || !strings.Contains(string(readme), rule) {
		t.Errorf("the README lacks the rule that this test is of: %v", err)
	}
	e := newEverybodys(t)
	open := filepath.Join(e.tmp, "open ed")
	e.home = filepath.Join(open, "own")
	if err := errors.Join(os.MkdirAll(e.home, 0o755), os.Chmod(open, 0o777), os.Chown(open, e.uid, e.uid), os.Chown(e.home, e.uid, e.uid)); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (ExitCode, string) {
		cmd := e.command(t, []string{"HOME=" + filepath.Dir(e.tmp)}, args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		_ = cmd.Run() // the exit code says it
		return ExitCode(cmd.ProcessState.ExitCode()), said.String()
	}
	if code, stderr := run("version"); code != ExitOK || stderr != "" {
		t.Errorf("without a configuration: %d; stderr:\n%s", code, stderr)
	}
	mend := "hint: `chmod o-w '" + open + "'`, or "
	for _, args := range [][]string{{"plan"}, {"gc", "--workspace", filepath.Dir(open) + "/w", "--cache-dir", "cache"}} {
		if code, stderr := run(args...); code != ExitEnvironment || !strings.Contains(stderr, mend+"name a folder of your own with --") {
			t.Errorf("%v: %d; stderr:\n%s", args, code, stderr)
		}
	}
	file := filepath.Join(e.home, config.File)
	if err := errors.Join(os.WriteFile(file, []byte("accel: cpu\n"), 0o644), os.Chown(file, e.uid, e.uid)); err != nil {
		t.Fatal(err)
	}
	if code, stderr := run("version"); code != ExitEnvironment || !strings.Contains(stderr, mend+"run dalirun in a folder of your own") ||
		!strings.Contains(stderr, "✗ the configuration "+file+" is not safe: other users have rights to "+open+": its mode is 0777") {
		t.Errorf("with a configuration: %d; stderr:\n%s", code, stderr)
	}
	if err := os.Chmod(open, 0o775); err != nil {
		t.Fatal(err)
	}
	if code, stderr := run("version"); code != ExitOK {
		t.Errorf("after the hint: %d; stderr:\n%s", code, stderr)
	}
}

// TestOpenFurtherBelow checks that what others could alter is refused in a folder of our own below everybody's, too, with the path at fault and the
// command that mends it, after which the same command works.
func TestOpenFurtherBelow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		path   string // below the current folder
		mode   fs.FileMode
		theirs bool // it is another user's
		args   []string
		mend   string // before the path
	}{
		"a configuration that others may write": {config.File, 0o666, false, []string{"version"}, "chmod o-w "},
		"another's configuration":               {config.File, 0o644, true, []string{"version"}, "sudo chown -hR "},
		"a workspace that others may write":     {".dalirun", 0o777, false, []string{"plan"}, "chmod o-w "},
		"another's workspace":                   {".dalirun", 0o755, true, []string{"plan"}, "sudo chown -hR "},
		"a cache that others may write":         {"cache", 0o777, false, []string{"plan", "--cache-dir", "cache"}, "chmod o-w "},
		"a folder that others may write":        {"", 0o777, false, []string{"plan"}, "chmod o-w "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Getuid() != 0 {
				needtest.Missing(t, "only root can make what is another user's")
			}
			e := newEverybodys(t)
			e.home = filepath.Join(e.tmp, "a", "b")
			path := filepath.Join(e.home, tt.path)
			create := func() error { return os.MkdirAll(path, 0o755) }
			if tt.path == config.File {
				create = func() error { return os.WriteFile(path, []byte("accel: cpu\n"), 0o600) }
			}
			uid := e.uid
			if tt.theirs {
				uid = 4711
			}
			if err := errors.Join(os.MkdirAll(e.home, 0o755), os.Chown(filepath.Dir(e.home), e.uid, e.uid), os.Chown(e.home, e.uid, e.uid),
				create(), os.Chmod(path, tt.mode), os.Chown(path, uid, uid)); err != nil {
				t.Fatal(err)
			}
			run := func() (ExitCode, string) {
				cmd := e.command(t, []string{"HOME=" + filepath.Dir(e.tmp)}, tt.args...)
				var said bytes.Buffer
				cmd.Stderr = &said
				_ = cmd.Run() // the exit code says it
				return ExitCode(cmd.ProcessState.ExitCode()), said.String()
			}
			if tt.theirs {
				tt.mend += strconv.Itoa(e.uid) + " "
			}
			if code, stderr := run(); code != ExitEnvironment || !strings.Contains(stderr, " is not safe: ") || !strings.Contains(stderr, "hint: `"+tt.mend+path+"`") {
				t.Errorf("it ended with %d; stderr:\n%s", code, stderr)
			}
			if err := errors.Join(os.Chmod(path, tt.mode&^0o002), os.Chown(path, e.uid, e.uid)); err != nil {
				t.Fatal(err)
			}
			if _, stderr := run(); strings.Contains(stderr, "is not safe") {
				t.Errorf("after the hint:\n%s", stderr)
			}
		})
	}
}
