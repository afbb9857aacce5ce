package remedy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// A Folder is one that a flag names, so that another one may be named.
type Folder struct {
	Path string // absolute
	What string // "the cache"
	Flag string // "--cache-dir"
}

// Disk returns what to do about an error of a disk of this host. ok is false if err is none: a full disk, a used-up
// quota, a read-only file system, or a failure to read or write. Such an error is not the fault of a flag, so that its
// hint takes precedence over a flag's. If the failed path is in one of the folders, the hint names the folder.
func Disk(err error, folders ...Folder) (hint string, ok bool) {
	disk, retry := "of "+failedPath(err), "then run again"
	if disk == "of " {
		disk = "that was written to"
	}
	for _, f := range folders {
		if below, err := filepath.Rel(f.Path, failedPath(err)); err == nil && filepath.IsLocal(below) {
			disk, retry = "of "+f.What+", "+f.Path, retry+", or name another with "+f.Flag
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "free space on the disk " + disk + " (`df -h` shows it, `df -i` whether it can have no more files), " +
			retry, true
	case errors.Is(err, syscall.EDQUOT):
		return "free space in your quota on the disk " + disk + " (`quota -s` shows it), " + retry, true
	case errors.Is(err, syscall.EROFS):
		return "the file system " + disk +
			" is read-only: mount it anew to be written to, or name folders on another one with --workspace and " +
			"--cache-dir", true
	case errors.Is(err, syscall.EIO):
		return "the disk " + disk + " does not read or write: `sudo dmesg` says what it met", true
	default:
		return "", false
	}
}

// File returns what to do about an error of a file or folder of this host whose path is known, and whether err is one.
func File(err error) (hint string, ok bool) {
	path := failedPath(err)
	if path == "" {
		return "", false
	}
	return "`ls -ld " + shell.Quote(path) +
		"` shows whether it is there and whose it is; or name other folders with --workspace and --cache-dir", true
}

// An Explainer says what to do about errors, in the words of one call of dalirun.
type Explainer struct {
	Folders []Folder
	Program Program
}

// Explain makes of each error whose cause is known a [pipeline.Fault], which alone decides the exit code: an error of a
// disk or of a file of this host ([Disk], [File]), and one of the container engine ([EngineFault]). A fault stays what
// it is, unless a disk caused it: then the disk is what has to be mended, whichever flag named the file. Other errors,
// and what was explained already, stay as they are. Explain writes the commands in all hints as [Program.Commands]
// does.
func (x Explainer) Explain(err error) error {
	err = x.explain(err)
	x.Program.Name(err)
	return err
}

func (x Explainer) explain(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // of this very error: each of several has its own cause
		parts := joined.Unwrap()
		var texts []string
		for _, part := range parts {
			texts = append(texts, part.Error())
		}
		if strings.Join(texts, "\n") == err.Error() { // those of errors.Join, and of nobody who words them otherwise
			explained := make([]error, len(parts))
			for i, part := range parts {
				explained[i] = x.explain(part)
			}
			return errors.Join(explained...)
		}
	}
	fault, isFault := errors.AsType[*pipeline.Fault](err)
	if hint, ok := Disk(err, x.Folders...); ok {
		if isFault {
			fault.Kind, fault.Hint = pipeline.Environment, hint
			return err
		}
		return &pipeline.Fault{Kind: pipeline.Environment, Hint: hint, Err: err}
	}
	if isFault {
		return err
	}
	if fault, ok := EngineFault(err); ok {
		return fault
	}
	if hint, ok := File(err); ok || errors.Is(err, fs.ErrPermission) {
		return &pipeline.Fault{Kind: pipeline.Environment, Hint: hint, Err: err}
	}
	return err
}

// EngineFault returns the fault for an error of the container engine or of a registry. ok is false for any other error,
// and for one that has a fault.
func EngineFault(err error) (fault *pipeline.Fault, ok bool) {
	hint, ok := Engine(err)
	if !ok {
		hint, ok = Registry(err)
	}
	if _, isFault := errors.AsType[*pipeline.Fault](err); isFault || !ok {
		return nil, false
	}
	fault = &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: hint}
	if r, _, known := Find(err.Error()); known && errors.Is(err, container.ErrNoGPU) {
		// The remedy's text comes first, since the container engine's message is long.
		fault.Err, fault.Hint = fmt.Errorf("%s: %w", r.Text, err), r.Hint
	}
	return fault, true
}

// failedPath is the path of the call that failed; empty if it is not known.
func failedPath(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Path
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.New
	}
	return ""
}
