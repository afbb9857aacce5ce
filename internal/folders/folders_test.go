package folders_test

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// everybodys makes a folder as /tmp is one.
func everybodys(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tmp")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|fs.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// folder makes a folder with rights.
func folder(t *testing.T, rights fs.FileMode, path ...string) string {
	t.Helper()
	dir := filepath.Join(path...)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, rights)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func file(t *testing.T, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// find finds both folders, as a command does.
func find(workspace, cache, usualCache string, settings target.Settings) (folders.Folders, error) {
	dir, err := folders.Workspace(workspace, settings)
	if err != nil {
		return folders.Folders{}, err
	}
	return folders.WithCache(dir, cache, usualCache, settings)
}

// What flags name must be two folders that nobody else could alter and that hold nothing else. A fault names the flag by
// where it was written.
func TestFindRefuses(t *testing.T) {
	t.Parallel()
	dir, shared := t.TempDir(), everybodys(t)
	settings := target.Settings{{Flag: "cache-dir", From: "DALIRUN_CACHE_DIR"}}
	good, photos := filepath.Join(dir, "good"), folder(t, 0o700, dir, "photos")
	file(t, photos, "cat.jpg")
	below := filepath.Join(file(t, dir, "file"), "below")
	open := folder(t, 0o777, shared, "open")
	who := "o" // the user's own group is nobody else
	if os.Getgid() != os.Getuid() {
		who = "go"
	}
	deep := folder(t, 0o777, folder(t, 0o755, shared, "seen"), ".dalirun")
	for name, c := range map[string]struct {
		workspace, cache string
		kind             pipeline.Kind
		err, hint        string
	}{
		"one for both":      {good, good, pipeline.Usage, "--workspace and DALIRUN_CACHE_DIR: cache-dir are both " + good, "name two folders"},
		"another cache":     {good, photos, pipeline.Usage, "DALIRUN_CACHE_DIR: cache-dir: ", "name a folder of its own, as in --cache-dir " + photos + "/dalirun"},
		"another workspace": {photos, good, pipeline.Usage, "--workspace: ", "name a folder of its own, as in --workspace " + photos + "/.dalirun"},
		"a file, cache":     {good, below, pipeline.Usage, "DALIRUN_CACHE_DIR: cache-dir: " + below + " is no folder", "name a folder, or one that can be made"},
		"a file, workspace": {below, good, pipeline.Usage, "--workspace: " + below + " is no folder", "name a folder, or one that can be made"},
		"an open cache": {
			good, open, pipeline.Environment, "the cache " + open + " is not safe: other users have rights to " + open,
			"`chmod " + who + "-w " + open + "`, or name a folder of your own with --cache-dir",
		},
		"in an open workspace": {
			filepath.Join(open, "w"), good, pipeline.Environment, "the workspace " + open + "/w is not safe: other users have rights to " + open,
			"`chmod " + who + "-w " + open + "`, or name a folder of your own with --workspace",
		},
		"an open workspace further below": {
			deep, good, pipeline.Environment, "the workspace " + deep + " is not safe: other users have rights to " + deep + ": its mode is 0777",
			"`chmod " + who + "-w " + deep + "`, or name a folder of your own with --workspace",
		},
	} {
		_, err := find(c.workspace, c.cache, "/usual", settings)
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != c.kind || !strings.HasPrefix(fault.Error(), c.err) || fault.Hint != c.hint {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// What another user has, or a group that is not the user's alone may write to, is refused with the command that mends it.
func TestFindRefusesOthers(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can make what is another user's")
	}
	good, seen := filepath.Join(t.TempDir(), "good"), folder(t, 0o755, everybodys(t), "seen")
	grouped, theirs := folder(t, 0o720, seen, "grouped"), folder(t, 0o755, seen, "their s")
	if err := errors.Join(os.Chown(grouped, 0, 4711), os.Chown(theirs, 4711, 4711)); err != nil {
		t.Fatal(err)
	}
	for cache, want := range map[string]string{
		grouped: "`chmod g-w " + grouped + "`, or name a folder of your own with --cache-dir",
		theirs:  "`chown -hR 0 '" + theirs + "'` if you trust it, or name a folder of your own with --cache-dir",
	} {
		_, err := find(good, cache, "/usual", nil)
		if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.Environment || fault.Hint != want {
			t.Errorf("%+v, want the hint %q", err, want)
		}
	}
}

// Folders that are not there yet are found by their absolute paths, and the cache can be opened.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f, err := find("w", "c", "/usual", nil)
	if err != nil || f.Workspace != filepath.Join(dir, "w") || f.Cache != filepath.Join(dir, "c") || f.Doubt != "" {
		t.Fatalf("%+v, %v", f, err)
	}
	if named := f.Named(); named[0].Path != f.Workspace || named[1].Path != f.Cache {
		t.Errorf("%+v", named)
	}
	if _, err := f.OpenCache(); err != nil {
		t.Error(err)
	}
	if again, err := find("w", "c", "/usual", nil); err != nil || again != f {
		t.Errorf("once it is a cache: %+v, %v", again, err)
	}
	blocked := folders.Folders{Cache: filepath.Join(file(t, dir, "file"), "c")}
	if _, err := blocked.OpenCache(); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	open := folders.Folders{Cache: folder(t, 0o777, everybodys(t), "c")}
	if _, err := open.OpenCache(); err == nil || !strings.Contains(err.Error(), "is not safe") {
		t.Errorf("made by others just before: %v", err)
	}
}

// In the place of a usual cache that is not safe comes another folder, the same one each time.
func TestFindAnotherCache(t *testing.T) {
	shared := everybodys(t)
	t.Setenv("TMPDIR", shared)
	usual := folders.UsualCache("", "")
	folder(t, 0o755, usual) // others may read it
	var first folders.Folders
	for range 2 {
		f, err := find(filepath.Join(t.TempDir(), "w"), usual, usual, nil)
		if err != nil || !strings.HasPrefix(f.Cache, usual+"-") || !strings.HasPrefix(f.Doubt, "the cache "+usual+" is not used: ") {
			t.Fatalf("%+v, %v", f, err)
		}
		if first.Cache != "" && f.Cache != first.Cache {
			t.Errorf("first %s, then %s", first.Cache, f.Cache)
		}
		first = f
	}
}

func TestUsualCache(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ xdg, home, want string }{
		{"/xdg", "/home/me", "/xdg/dalirun"},
		{"relative", "/home/me", "/home/me/.cache/dalirun"},
		{"", "/home/me", "/home/me/.cache/dalirun"},
	} {
		if got := folders.UsualCache(c.xdg, c.home); got != c.want {
			t.Errorf("%q and %q: %s", c.xdg, c.home, got)
		}
	}
	if me, err := user.Current(); err == nil { // a user ID in a container may have no name
		if got := folders.CacheFlags(filepath.Join(me.HomeDir, ".cache", "dalirun")); got != nil {
			t.Errorf("the usual one: %q", got)
		}
	}
	if got := folders.CacheFlags("/xdg/dalirun"); len(got) != 1 || got[0] != "--cache-dir=/xdg/dalirun" {
		t.Errorf("%q", got)
	}
}

// A file of the user that others could alter is refused under the name that it is given, with the command that mends it.
func TestCheckOwn(t *testing.T) {
	t.Parallel()
	shared := everybodys(t)
	seen := folder(t, 0o755, shared, "seen")
	open, link := file(t, seen, "open.yaml"), filepath.Join(shared, "link.yaml")
	if err := errors.Join(os.Chmod(open, 0o602), os.Symlink(open, link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, err, hint string }{
		{file(t, seen, "own.yaml"), "", ""},
		{filepath.Join(seen, "none.yaml"), "", ""},
		{open, "the configuration is not safe: other users have rights to " + open, "`chmod o-w " + open + "`, or name another"},
		// Nobody knows what a link of somebody else is to lead to.
		{link, "the configuration is not safe: " + link + " is a symbolic link", "name another"},
	} {
		err := folders.CheckOwn(c.path, "the configuration", "name another")
		if c.err == "" {
			if err != nil {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Environment || !strings.HasPrefix(fault.Error(), c.err) || fault.Hint != c.hint {
			t.Errorf("%s: %+v", c.path, err)
		}
	}
}

// Nobody else may even read what is in the temporary cache, also where it is named.
func TestTemporaryCacheIsPrivate(t *testing.T) {
	t.Setenv("TMPDIR", everybodys(t))
	cache := folder(t, 0o707, folders.UsualCache("", ""))
	_, err := find(filepath.Join(t.TempDir(), "w"), cache, "/usual", nil)
	want := "`chmod o-rwx " + cache + "`, or name a folder of your own with --cache-dir"
	if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.Environment || fault.Hint != want {
		t.Errorf("%+v, want the hint %q", err, want)
	}
}

// Where no folder can be made in the place of a usual cache that is not safe, both reasons are told.
func TestFindNoOtherCache(t *testing.T) {
	shared := everybodys(t)
	usual := folder(t, 0o777, shared, "usual")
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	_, err := find(filepath.Join(t.TempDir(), "w"), usual, usual, nil)
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != pipeline.Environment || fault.Hint != "name a folder with --cache-dir" ||
		!strings.HasPrefix(fault.Error(), "the cache "+usual+" is not safe: ") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%+v", err)
	}
}
