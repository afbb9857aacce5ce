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

// Disk returns what to do about an error of a disk of this host, and whether err is one: the disk is full, a quota is used up, the file system
// is read-only, or the disk does not read or write. No flag is at fault then, so this goes before the hint of the flag that err was met with. What
// failed in one of the folders, whose files come and go, is told as the folder's.
func Disk(err error, folders ...Folder) (hint string, ok bool) {
	of, again := "of "+failedPath(err), "then run again"
	if of == "of " {
		of = "that was written to"
	}
	for _, f := range folders {
		if below, err := filepath.Rel(f.Path, failedPath(err)); err == nil && filepath.IsLocal(below) {
			of, again = "of "+f.What+", "+f.Path, again+", or name another with "+f.Flag
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "free space on the disk " + of + " (`df -h` shows it, `df -i` whether it can have no more files), " + again, true
	case errors.Is(err, syscall.EDQUOT):
		return "free space in your quota on the disk " + of + " (`quota -s` shows it), " + again, true
	case errors.Is(err, syscall.EROFS):
		return "the file system " + of + " is read-only: mount it anew to be written to, or name folders on another one with --workspace and --cache-dir", true
	case errors.Is(err, syscall.EIO):
		return "the disk " + of + " does not read or write: `sudo dmesg` says what it met", true
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
	return "`ls -ld " + shell.Quote(path) + "` shows whether it is there and whose it is; or name other folders with --workspace and --cache-dir", true
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
