package userfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// OtherError says that a name is that of something which a new file does not take the place of.
type OtherError struct {
	Name string // as the user named it
	Kind string // what it is not: a file, a record of dalirun
}

func (e *OtherError) Error() string { return Shown(e.Name) + " is there already, and is no " + e.Kind }

// ErrNoFile says that a name is that of a pipe or a device, where only a file will do.
var ErrNoFile = errors.New("it is no file")

// OpenFile opens a file to be read, or a folder. What is a pipe or a device is not opened, which could wait for ever:
// it is [ErrNoFile].
func OpenFile(name string) (*os.File, error) {
	about, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if mode := about.Mode(); !mode.IsRegular() && !mode.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNoFile}
	}
	return os.Open(name)
}

// Replaceable returns the path at which a new file takes the place of what a user named: links are followed, and stay.
// It is an [OtherError] if something else is there: a device or a pipe, which is not opened, or a file that ours does
// not know by its content. An empty one is anybody's. ours is nil where every file may be replaced.
func Replaceable(name, kind string, ours func(io.Reader) bool) (path string, err error) {
	about, err := os.Stat(name)
	switch {
	case err != nil: // nothing is there, or else making the file says what is wrong
		return followed(name), nil
	case !about.Mode().IsRegular():
		return "", &OtherError{name, kind}
	case ours == nil || about.Size() == 0:
		return followed(name), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	if !ours(f) {
		return "", &OtherError{name, kind}
	}
	return followed(name), nil
}

// followed is the file that a name stands for, also one that a link names and that is not there yet.
func followed(name string) string {
	if path, err := filepath.EvalSymlinks(name); err == nil {
		return path
	}
	to, err := os.Readlink(name)
	if err != nil {
		return name
	}
	if filepath.IsAbs(to) {
		return to
	}
	return filepath.Join(filepath.Dir(name), to)
}
