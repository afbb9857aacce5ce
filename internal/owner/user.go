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

// OtherUser names the user whom a server of a workspace belongs to, if it is not this process's: the one who owns the server
// file, the folder of one of the runs that started a server, or the folder in which these are hidden from others. It is empty
// for one's own, for root, who may do everything, where nothing is left of them, and where the system does not tell.
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
		info, err := shown(path)
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

// shown is what is known of path, or of the folder above it that keeps others from looking.
func shown(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	for errors.Is(err, fs.ErrPermission) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Lstat(path)
	}
	return info, err
}
