//go:build linux || darwin

package store

import (
	"io/fs"
	"syscall"
)

// identify returns which content a file has, and how many files have it.
func identify(path string, info fs.FileInfo) (id contentID, links uint64) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return contentID{path: path}, 1
	}
	//nolint:gosec,unconvert,nolintlint // the types differ by system, and the numbers only tell files apart
	return contentID{device: uint64(stat.Dev), inode: stat.Ino}, uint64(stat.Nlink)
}
