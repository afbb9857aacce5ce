//go:build linux || darwin

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// CheckOwn refuses a path below a folder where everybody may make files (sticky), such as /tmp, if others could alter
// what it leads to. There each part of the path must
//
//   - belong to this user or to root,
//   - be writable for no others and, where the path ends with it, give others none of the rights of forbidden.
//
// In that folder itself, where others may have been first, a part must be no symbolic link, and what the path ends with
// must not be root's. The group that has the number of the owner is the owner's alone by convention, and is no other:
// with the umask 002 of such systems everything is writable for it.
//
// What is below a folder that no others may enter is safe from them. What is not there yet is no reason, so whoever
// makes it asks again then: from there on nobody else can replace it. Elsewhere nothing is refused. Links are followed,
// and where they lead is looked at in the same way.
func CheckOwn(path string, forbidden fs.FileMode) error {
	const most = 255 // the system itself follows fewer links
	next := path
	for range most {
		var err error
		if next, err = checkOwn(next, forbidden); err != nil || next == "" {
			return err
		}
	}
	return &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
}

// place says what others could do to the names in a folder.
type place int

const (
	elsewhere place = iota // nobody asks
	shared                 // everybody may make one, and only its owner may replace it
	below                  // in a folder below a shared one
)

// checkOwn checks an absolute path up to its first symbolic link or "..", and returns the path that goes on from there;
// empty if it has neither.
func checkOwn(path string, forbidden fs.FileMode) (next string, err error) {
	names := strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
	names = slices.DeleteFunc(names, func(name string) bool { return name == "." })
	dir, part, in := "/", "/", elsewhere
	for i := 0; ; i++ {
		info, err := os.Lstat(part)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if in != elsewhere {
			if err := checkPart(part, info, in, i == len(names), forbidden); err != nil {
				return "", err
			}
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(part)
			if !filepath.IsAbs(target) {
				target = dir + "/" + target
			}
			return target + "/" + strings.Join(names[i:], "/"), err
		}
		if i == len(names) {
			return "", nil
		}
		if names[i] == ".." {
			return filepath.Dir(part) + "/" + strings.Join(names[i+1:], "/"), nil
		}
		dir, part, in = part, filepath.Join(part, names[i]), placeIn(info, in)
	}
}

// placeIn returns what a folder is that lies in another place.
func placeIn(folder fs.FileInfo, in place) place {
	const enter = 0o011
	switch {
	case everybodys(folder):
		return shared
	case in == elsewhere, folder.Mode()&enter&others(folder) == 0:
		return elsewhere
	default:
		return below
	}
}

// everybodys reports whether everybody may make files in a folder, and only their owners may replace them.
func everybodys(info fs.FileInfo) bool {
	const worldWritable = 0o002
	return info.IsDir() && info.Mode()&fs.ModeSticky != 0 && info.Mode()&worldWritable != 0
}

// others are the rights to a file that somebody else than its owner has by them.
func others(info fs.FileInfo) fs.FileMode {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Gid == stat.Uid {
		return 0o007
	}
	return 0o077
}

// checkPart refuses a part of a path in a folder that is shared or below one.
func checkPart(part string, info fs.FileInfo, in place, last bool, forbidden fs.FileMode) error {
	const writable = 0o022
	refused := fs.FileMode(writable)
	switch {
	case info.Mode()&fs.ModeSymlink != 0: // its rights say nothing
		refused = 0
	case last:
		refused |= forbidden
	case everybodys(info):
		refused = 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	foreign := ok && int(stat.Uid) != os.Getuid() && (stat.Uid != 0 || in == shared && last)
	switch open := info.Mode() & refused & others(info); {
	case in == shared && info.Mode()&fs.ModeSymlink != 0:
		return &UnsafeError{Path: part, why: part + " is a symbolic link in a folder where everybody may make one"}
	case in == shared && foreign:
		return &UnsafeError{
			Path: part,
			why: fmt.Sprintf("%s belongs to another user, %d, in a folder where everybody may make one", part,
				stat.Uid),
		}
	case foreign:
		return &UnsafeError{
			Path: part, Foreign: true,
			why: fmt.Sprintf("%s belongs to another user, %d", part, stat.Uid),
		}
	case open != 0:
		return &UnsafeError{
			Path: part, Close: open,
			why: fmt.Sprintf("other users have rights to %s: its mode is %04o", part, info.Mode().Perm()),
		}
	}
	return nil
}
