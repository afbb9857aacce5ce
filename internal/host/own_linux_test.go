package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckOwn checks whose a path is below a folder like /tmp, and that nothing is refused elsewhere.
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
	mine, group, all := mkdir(0o700, "tmp", "mine"), mkdir(0o775, "tmp", "group"), mkdir(0o777, "tmp", "all")
	inner := mkdir(0o777|fs.ModeSticky, "tmp", "mine", "tmp")
	theirs := ""
	if os.Getuid() == 0 {
		theirs = filepath.Join(tmp, "theirs") + " belongs to another user, 4711,"
	}
	tests := map[string]string{ // what is refused; empty: nothing
		tmp + "/new":                       "",
		tmp + "/new/deep/er":               "",
		mine:                               "",
		mine + "/new":                      "",
		inner + "/new":                     "",
		group:                              "its mode is 0775",
		group + "/new":                     "",
		all:                                "its mode is 0777",
		all + "/new":                       "other users have rights to " + all,
		link(mine, "tmp", "link"):          "is a symbolic link",
		tmp + "/link/new":                  tmp + "/link is a symbolic link",
		link(all, "link"):                  "other users have rights to " + all, // our own link, to what is not
		link(mine, "good"):                 "",
		link(tmp+"/link", "twice") + "/up": "", // what it leads to is ours, too
		link(tmp+"/theirs", "to") + "/up":  theirs,
		open:                               "",
		mkdir(0o777, "open", "all"):        "",
		"/":                                "",
	}
	if os.Getuid() == 0 {
		path := mkdir(0o700, "tmp", "theirs")
		file := filepath.Join(tmp, "file")
		if err := errors.Join(os.Chown(path, 4711, 4711), os.WriteFile(file, nil, 0o600), os.Chown(file, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		tests[path], tests[path+"/new"] = theirs, theirs
		tests[file] = "belongs to another user, 4711,"
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
