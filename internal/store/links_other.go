//go:build !linux && !darwin

package store

import "io/fs"

// identify takes each file for one with a content of its own: here a file does not tell its links unless it is opened.
func identify(path string, _ fs.FileInfo) (id contentID, links uint64) {
	return contentID{path: path}, 1
}
