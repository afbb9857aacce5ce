//go:build linux || darwin

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaseFolder returns the first folder where every user may make files, and only their owners may replace them.
func leaseFolder(candidates ...string) (string, error) {
	for _, folder := range candidates {
		if info, err := os.Stat(folder); err == nil && everybodys(info) {
			return folder, nil
		}
	}
	return "", fmt.Errorf("neither of %s is a folder where every user may make files, and only their owners replace them",
		strings.Join(candidates, " and "))
}

// lockFile locks the file of a lease. If another process has the lock, there is no file, and holder is what the file
// says of that process.
func lockFile(path string) (file *os.File, holder Holder, err error) {
	for range 10 {
		file, err = openLease(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			continue // another process makes the file, or somebody removes it
		}
		if err != nil {
			return nil, holder, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder = readHolder(file)
			return nil, holder, file.Close()
		}
		if err != nil {
			return nil, holder, errors.Join(&fs.PathError{Op: "lock", Path: path, Err: err}, file.Close())
		}
		// A lock of a file without a name keeps nobody away: somebody cleaned the folder.
		if named, err := os.Lstat(path); err == nil {
			if locked, err := file.Stat(); err == nil && os.SameFile(named, locked) {
				return file, holder, nil
			}
		}
		if err := file.Close(); err != nil {
			return nil, holder, err
		}
	}
	return nil, holder, fmt.Errorf("%s comes and goes", path)
}

// unlockFile unlocks and closes a file. Closing alone would not do while a program is being started, which has the file
// too until it runs.
func unlockFile(file *os.File) {
	_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
	_ = file.Close()
}

// openLease opens the file of a lease for every user, or makes it.
//
// Where others may have been first, nothing is followed, awaited or written to that is not a plain file of one name: a
// link could lead to a file of this user's. And a file that is there is not opened with O_CREAT: with
// fs.protected_regular (sysctl/fs.rst of the kernel) that is refused even to root if the file is another user's.
func openLease(path string) (*os.File, error) {
	const safely = unix.O_NOFOLLOW | unix.O_NONBLOCK // a pipe would be waited for
	file, err := os.OpenFile(path, os.O_RDWR|safely, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("it is a symbolic link")}
	}
	if errors.Is(err, fs.ErrNotExist) {
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|safely, forEveryone)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("it is no file")}
	case links(info) > 1:
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("it is a hard link")}
	case info.Mode().Perm() != forEveryone && isMine(info):
		err = file.Chmod(forEveryone) // the umask took rights away
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// forEveryone are the rights to a lease's file: a user who could not write to it could not say who has the lease.
const forEveryone = 0o666

func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // of 16 bits on macOS
	}
	return 1
}

func isMine(info fs.FileInfo) bool {
	uid, ok := ownerOf(info)
	return ok && uid == os.Geteuid()
}
