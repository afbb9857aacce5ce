package owner

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/dalirun/dalirun/internal/host"
)

// OtherUser returns the user to whom a server of a workspace belongs, if that is not the user of this process: the
// owner of the server file, of the folder of one of the runs that started a server, or of the folder that hides these
// from other users. It is empty for the user's own server, for root, who may do everything, if none of the files
// exists, and if the system does not know owners.
func OtherUser(workspace string, runs ...string) (string, error) {
	me := os.Geteuid()
	if me == 0 {
		return "", nil
	}
	paths := []string{ServerPath(workspace)}
	for _, run := range runs {
		if isRunID(run) {
			paths = append(paths, RunDir(workspace, run))
		}
	}
	for _, path := range paths {
		info, err := visibleInfo(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		uid, known := host.OwnerOf(info)
		if !known || uid == me {
			continue
		}
		id := strconv.Itoa(uid)
		if u, err := user.LookupId(id); err == nil {
			return u.Username, nil
		}
		return "uid " + id, nil
	}
	return "", nil
}

// IsOwn reports whether a folder is this user's, for root too: what root writes there would be root's. It is true where
// the system does not know owners.
func IsOwn(dir string) bool {
	uid, known := host.Owner(dir)
	return !known || uid == os.Geteuid()
}

// visibleInfo returns the information on path, or on the folder above it that hides it from this user.
func visibleInfo(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	for errors.Is(err, fs.ErrPermission) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Lstat(path)
	}
	return info, err
}
