//go:build linux || darwin

package host

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Files > 0 && st.Ffree == 0 { // a file system that counts its files and can have no more
		return 0, nil
	}
	return st.Bavail * uint64(st.Bsize), nil //nolint:gosec // a block's size is positive
}

// writable asks the kernel, for the user that this process acts as.
func writable(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

func ownerOf(about os.FileInfo) (uid int, ok bool) {
	st, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

func deviceOf(about os.FileInfo) (number uint64, ok bool) {
	st, ok := about.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Dev), true //nolint:unconvert // its type differs by system
}
