package remedy

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Disk returns what to do about an error of a disk of this host, and whether err is one: the disk is full, a quota is used up, the file system
// is read-only, or the disk does not read or write. No flag is at fault then, so this goes before the hint of the flag that err was met with.
func Disk(err error) (hint string, ok bool) {
	of := "of " + failedPath(err)
	if of == "of " {
		of = "that was written to"
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "free space on the disk " + of + " (`df -h` shows it, `df -i` whether it can have no more files), then run again", true
	case errors.Is(err, syscall.EDQUOT):
		return "free space in your quota on the disk " + of + " (`quota -s` shows it), then run again", true
	case errors.Is(err, syscall.EROFS):
		return "the file system " + of + " is read-only: mount it anew to be written to, or name folders on another one with --workspace and --cache-dir", true
	case errors.Is(err, syscall.EIO):
		return "the disk " + of + " does not read or write: `sudo dmesg` says what it met", true
	default:
		return "", false
	}
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
