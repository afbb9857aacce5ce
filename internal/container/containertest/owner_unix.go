//go:build unix

package containertest

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user that a file belongs to; ok is false where files have none.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
