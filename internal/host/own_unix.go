//go:build linux || darwin

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// CheckOwn refuses a path through a folder where everybody may make files, such as /tmp, if what it has there may be
// another user's work. What the path has in such a folder must
//
//   - be no symbolic link,
//   - belong to this user, or to root if the path goes on below it,
//   - be writable for no others and, where the path ends with it, give others none of the rights of forbidden.
//
// What is not there yet is no reason, so whoever makes it asks again then: from there on nobody else can replace it.
// Elsewhere nothing is refused.
func CheckOwn(path string, forbidden fs.FileMode) error {
	err := checkOwn(path, forbidden)
	if real := resolved(path); err == nil && real != path {
		err = checkOwn(real, forbidden)
	}
	return err
}

// resolved returns an absolute path with the symbolic links in its existing part resolved.
func resolved(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if parent := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && parent != path {
		return filepath.Join(resolved(parent), filepath.Base(path))
	}
	if err != nil {
		return path
	}
	return real
}

func checkOwn(path string, forbidden fs.FileMode) error {
	const worldWritable = 0o002
	shared := false
	for i := range len(path) + 1 {
		last := i == len(path)
		if !last && path[i] != filepath.Separator {
			continue
		}
		part, stat := path[:max(i, 1)], os.Stat
		if shared {
			stat = os.Lstat
		}
		info, err := stat(part)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		everybody := info.IsDir() && info.Mode()&fs.ModeSticky != 0 && info.Mode()&worldWritable != 0
		if shared {
			refused := fs.FileMode(worldWritable)
			switch {
			case last:
				refused = forbidden
			case everybody:
				refused = 0
			}
			if err := checkPart(part, info, last, refused); err != nil {
				return err
			}
		}
		shared = everybody // in any other folder, only its owner can make files
	}
	return nil
}

func checkPart(part string, info fs.FileInfo, last bool, refused fs.FileMode) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return &UnsafeError{Path: part, why: part + " is a symbolic link in a folder where everybody may make one"}
	case ok && int(stat.Uid) != os.Getuid() && (last || stat.Uid != 0):
		return &UnsafeError{
			Path: part,
			why: fmt.Sprintf("%s belongs to another user, %d, in a folder where everybody may make one", part,
				stat.Uid),
		}
	case info.Mode()&refused != 0:
		return &UnsafeError{
			Path: part, Close: refused,
			why: fmt.Sprintf("other users have rights to %s: its mode is %04o", part, info.Mode().Perm()),
		}
	}
	return nil
}
