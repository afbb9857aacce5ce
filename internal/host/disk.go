package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DiskFree returns the bytes that a user without privileges can still write under a path: none where the file system
// can have no more files. The path need not exist: the nearest parent that does is asked.
func DiskFree(path string) (uint64, error) {
	dir, err := existing(path)
	if err != nil {
		return 0, err
	}
	free, err := free(dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return free, nil
}

// Writable returns nil if this process may make files in the folder at a path, else an [*fs.PathError] that says why
// not: the user's rights, or a file system that is read-only. The path need not exist: the nearest parent that does is
// asked, since the folder would be made in it. A full disk is no reason here; see [DiskFree].
func Writable(path string) error {
	dir, err := existing(path)
	if err != nil {
		return err
	}
	about, err := os.Stat(dir)
	if err == nil && !about.IsDir() {
		return &fs.PathError{Op: "write", Path: dir, Err: syscall.ENOTDIR}
	}
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

// Owner returns the user ID of whom a file or folder belongs to. It is false where nothing is there, or the system does
// not tell.
func Owner(path string) (uid int, ok bool) {
	about, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return OwnerOf(about)
}

// OwnerOf is [Owner] of what is known of a file already, such as of a symbolic link itself.
func OwnerOf(about os.FileInfo) (uid int, ok bool) { return ownerOf(about) }

func existing(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("free space of %s: %w", path, err)
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir || !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("free space of %s: %w", path, err)
		}
		dir = parent
	}
}
