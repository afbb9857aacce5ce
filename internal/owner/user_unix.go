//go:build unix

package owner

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// OtherUser names the user whom a server of a workspace belongs to, if it is not this process's: the one who owns the server
// file, the folder of one of the runs that started a server, or the folder in which these are hidden from others. It is empty
// for one's own, for root, who may do everything, and where nothing is left of them.
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
		uid, err := uidOf(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && uid == me {
			continue
		}
		if err != nil {
			return "", err
		}
		id := strconv.Itoa(uid)
		if u, err := user.LookupId(id); err == nil {
			return u.Username, nil
		}
		return "uid " + id, nil
	}
	return "", nil
}

// uidOf returns the owner of path, or of the folder above it that keeps others from looking.
func uidOf(path string) (int, error) {
	info, err := os.Lstat(path)
	for errors.Is(err, fs.ErrPermission) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Lstat(path)
	}
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New(path + " has no owner")
	}
	return int(stat.Uid), nil
}
