package userfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// What is no file, or not there, is told with what to name instead.
func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for name, c := range map[string]struct{ file, err, hint string }{
		"nothing":               {filepath.Join(dir, "none"), "no such file or directory", "check the name"},
		"nothing from here on":  {"none", "no such file or directory", "check the name; it was looked for from /"},
		"a folder":              {dir, "it is a directory", "name a file in it, or all of them as in " + dir + "/*"},
		"a socket":              {socket, "it is a socket", "name a file, or a pipe as in <(...); - is standard input"},
		"a device":              {os.DevNull, "it is a device", "name a file, or a pipe as in <(...); - is standard input"},
		"standard input, twice": {userfile.Stdin, "it was read already, and can be read once", "name - once; "},
	} {
		files := &userfile.Reader{Stdin: strings.NewReader("")}
		if c.file == userfile.Stdin {
			if _, err := files.Read(t.Context(), c.file, 1); err != nil {
				t.Errorf("%s: the first time: %v", name, err)
			}
		}
		_, err := files.Read(t.Context(), c.file, 1)
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Usage || fault.Error() != c.err || !strings.HasPrefix(fault.Hint, c.hint) {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// A picture that is none is refused by its name.
func TestReaderPicture(t *testing.T) {
	t.Parallel()
	files := &userfile.Reader{Stdin: strings.NewReader("no picture")}
	_, _, err := files.Picture(t.Context(), userfile.Stdin)
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != pipeline.Usage || !strings.HasPrefix(fault.Error(), userfile.Shown(userfile.Stdin)+": ") {
		t.Errorf("%v", err)
	}
	_, _, err = files.Picture(t.Context(), userfile.Stdin)
	const twice = "read the picture: - (standard input): it was read already, and can be read once"
	if err == nil || err.Error() != twice {
		t.Errorf("the second time: %v", err)
	}
}

// Rights are the machine's fault, all else is the name.
func TestFaults(t *testing.T) {
	t.Parallel()
	of := func(cause error) error { return &fs.PathError{Op: "open", Path: "/x", Err: cause} }
	for name, c := range map[string]struct {
		err  error
		kind pipeline.Kind
		text string
	}{
		"to be read, a right":   {userfile.ReadFault(of(syscall.EACCES), "h"), pipeline.Environment, "permission denied"},
		"to be read":            {userfile.ReadFault(of(syscall.ENOENT), "h"), pipeline.Usage, "no such file or directory"},
		"to be made, a right":   {userfile.MakeFault("t", of(syscall.EACCES)), pipeline.Environment, "t: open /x: permission denied"},
		"to be made, a folder":  {userfile.MakeFault("t", of(syscall.EISDIR)), pipeline.Usage, "t: open /x: is a directory"},
		"to be made":            {userfile.MakeFault("t", of(syscall.ENOENT)), pipeline.Usage, "t: open /x: no such file or directory"},
		"without a kind":        {userfile.AsUsage(of(syscall.EIO)), pipeline.Usage, "open /x: input/output error"},
		"with a kind, it stays": {userfile.AsUsage(userfile.ReadFault(of(syscall.EACCES), "h")), pipeline.Environment, "permission denied"},
	} {
		fault, ok := errors.AsType[*pipeline.Fault](c.err)
		if !ok || fault.Kind != c.kind || fault.Error() != c.text {
			t.Errorf("%s: %+v", name, c.err)
		}
	}
}

// A file that is there is not overwritten.
func TestCreateNew(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "report.tar.gz")
	f, err := userfile.CreateNew("--bundle", name, "make the bundle")
	if err != nil {
		t.Fatal(err)
	}
	if about, err := f.Stat(); err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", about, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for file, want := range map[string]string{
		name:                     "--bundle: " + name + " is there already",
		"/nowhere/report.tar.gz": "make the bundle: open /nowhere/report.tar.gz: no such file or directory",
	} {
		if _, err := userfile.CreateNew("--bundle", file, "make the bundle"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
