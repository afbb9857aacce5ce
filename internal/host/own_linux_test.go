package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckOwn checks whose a path is below a folder like /tmp, at any depth, and that nothing is refused elsewhere.
func TestCheckOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mkdir := func(mode fs.FileMode, parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to string, parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tmp := mkdir(0o777|fs.ModeSticky, "tmp")
	open := mkdir(0o777, "open") // of which sticky says nothing
	mine, all := mkdir(0o700, "tmp", "mine"), mkdir(0o777, "tmp", "all")
	inner := mkdir(0o777|fs.ModeSticky, "tmp", "mine", "tmp")
	seen := mkdir(0o755, "tmp", "seen") // ours, and others may enter it
	file := func(mode fs.FileMode, parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	theirs := ""
	if os.Getuid() == 0 {
		theirs = filepath.Join(tmp, "theirs") + " belongs to another user, 4711,"
	}
	deep := mkdir(0o777, "tmp", "seen", "open")
	tests := map[string]string{ // what is refused; empty: nothing
		tmp + "/new":                       "",
		tmp + "/new/deep/er":               "",
		mine:                               "",
		mine + "/new":                      "",
		inner + "/new":                     "",
		all:                                "its mode is 0777",
		all + "/new":                       "other users have rights to " + all,
		link(mine, "tmp", "link"):          "is a symbolic link",
		tmp + "/link/new":                  tmp + "/link is a symbolic link",
		link(all, "link"):                  "other users have rights to " + all, // our own link, to what is not
		link(mine, "good"):                 "",
		link(tmp+"/link", "twice") + "/up": tmp + "/link is a symbolic link",
		link(tmp+"/theirs", "to") + "/up":  theirs,
		link("loop", "loop"):               "too many levels of symbolic links",
		open:                               "",
		mkdir(0o777, "open", "all"):        "",
		"/":                                "",
		seen + "/new":                      "",
		deep:                               "other users have rights to " + deep + ": its mode is 0777",
		deep + "/new":                      "other users have rights to " + deep + ": its mode is 0777",
		mkdir(0o755, "tmp", "seen", "open", "closed"):           "other users have rights to " + deep,
		file(0o644, "tmp", "seen", "file"):                      "",
		file(0o666, "tmp", "seen", "written"):                   "its mode is 0666",
		file(0o666, "tmp", "mine", "written"):                   "", // nobody gets there
		link("./file", "tmp", "seen", "near"):                   "",
		link("../seen/./../seen/open", "tmp", "seen", "round"):  "other users have rights to " + deep,
		link(deep, "tmp", "mine", "out") + "/new":               "other users have rights to " + deep,
		mkdir(0o777|fs.ModeSticky, "tmp", "seen", "tmp") + "/x": "",
		link(mine, "tmp", "seen", "tmp", "link"):                "is a symbolic link",
	}
	if os.Getuid() == 0 { // a group that is not the owner's alone, and what is others'
		path := mkdir(0o700, "tmp", "theirs")
		first := file(0o600, "tmp", "file")
		team, private := mkdir(0o775, "tmp", "team"), mkdir(0o775, "tmp", "private")
		yaml, foreign := file(0o664, "tmp", "seen", "team"), file(0o644, "tmp", "seen", "foreign")
		far := link(seen, "tmp", "seen", "far")
		if err := errors.Join(os.Chown(path, 4711, 4711), os.Chown(first, 4711, 4711), os.Chown(team, 0, 4711),
			os.Chown(yaml, 0, 4711), os.Chown(foreign, 4711, 0), os.Lchown(far, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		tests[path], tests[path+"/new"] = theirs, theirs
		tests[first] = "belongs to another user, 4711,"
		tests[team], tests[team+"/new"], tests[yaml] = "its mode is 0775", "its mode is 0775", "its mode is 0664"
		tests[private], tests[private+"/new"] = "", ""
		tests[foreign], tests[far+"/new"] = foreign+" belongs to another user, 4711", far+" belongs to another user, 4711"
	}
	for path, want := range tests {
		err := CheckOwn(path, 0o022)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if err := CheckOwn(mine, 0o077); err != nil {
		t.Error(err)
	}
}
