//go:build unix

package fsync

import (
	"errors"
	"os"
	"syscall"
)

// Dir makes the names in the folder path durable: a new file of which only the content was synced can be gone after a
// crash. Where a folder cannot be synced it does nothing.
func Dir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	// Some network file systems cannot do this, and need not: the server orders names.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
