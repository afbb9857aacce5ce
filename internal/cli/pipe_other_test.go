//go:build !unix

package cli

import (
	"errors"
	"io/fs"
)

// linksOf returns 0: how many names a file has is not looked at here.
func linksOf(fs.FileInfo) uint64 { return 0 }

// makePipe makes a named pipe.
func makePipe(string) error { return errors.ErrUnsupported }
