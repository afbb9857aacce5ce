package remedy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dalirun/dalirun/internal/shell"
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
