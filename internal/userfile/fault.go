package userfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// ReadFault is why a file that a user named cannot be read, without its name. What is not there, or is no file, is
// named wrongly, and hint says what to name; one that is there and that the user may not read is the machine's fault.
func ReadFault(err error, hint string) error {
	if errors.Is(err, fs.ErrPermission) {
		const hint = "let yourself read it: `ls -ld` of it and of its folders shows whose they are"
		return pipeline.Faultf(pipeline.Environment, hint, "%w", withoutName(err))
	}
	return pipeline.Usagef(hint, "%w", withoutName(err))
}

// MakeFault is why a file that a user named cannot be made: one that may not be written is the machine's fault, all
// else is the name. It says what was tried, as in "write the report".
func MakeFault(tried string, err error) error {
	switch {
	case errors.Is(err, syscall.EISDIR):
		return pipeline.Usagef("name a file, not a folder", "%s: %w", tried, err)
	case errors.Is(err, fs.ErrPermission):
		return pipeline.Faultf(pipeline.Environment, "name a file that you may write", "%s: %w", tried, err)
	default:
		return pipeline.Usagef("name a file in a folder that exists", "%s: %w", tried, err)
	}
}

// CreateNew makes the file that a flag names, for this user alone. One that is there is never overwritten. Its errors
// say what was tried, as in "make the bundle".
func CreateNew(flag, name, tried string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, pipeline.Usagef("name another file, or remove that one",
			"%s: %s is there already", flag, name)
	}
	if err != nil {
		return nil, MakeFault(tried, err)
	}
	return f, nil
}

// AsUsage makes an error without a kind the user's: what a file that was named gives.
func AsUsage(err error) error {
	if _, ok := errors.AsType[*pipeline.Fault](err); ok {
		return err
	}
	return pipeline.Usagef("", "%w", err)
}

// missingHint says where a file that is not there was looked for.
func missingHint(name string) string {
	if filepath.IsAbs(name) {
		return "check the name"
	}
	here, err := os.Getwd()
	if err != nil {
		return "check the name, and the folder that dalirun is run in"
	}
	return "check the name; it was looked for from " + printable.Name(here) + " on"
}

func directoryHint(name string) string {
	hint := "name a file in it"
	if printable.Name(name) == name { // what is shown otherwise names another folder
		hint += ", or all of them as in " + shell.Quote(filepath.Clean(name)) + "/*"
	}
	return hint
}

// withoutName is err without the name of the file, which the caller words, and perhaps has to quote.
func withoutName(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}
