// Package fsync makes files and their names durable: a file whose content was not synced can be empty after a crash,
// and one whose folder was not can be gone.
package fsync

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace writes data to the new file f, closes it, and renames it to path, which is on the same file system. A reader,
// and a crash at any moment, finds what was at path before, or all of data; once Replace has returned nil, data. If it
// fails, f is closed, and removed unless it is at path already.
func Replace(path string, f *os.File, data []byte) error {
	err := Write(f, data)
	if err == nil {
		err = Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error tells more
	}
	return err
}

// WriteFile makes path a new file with data and a mode. It never writes to what is there, which may be a hard link. A
// reader, and a crash at any moment, finds what was at path before, or all of data; a crash can leave a file whose name
// begins with that of path and ends in ".new".
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return Replace(path, f, data)
}

// Write writes data to f, makes them durable and closes f. The name is left to the caller: see [Dir].
func Write(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Rename is os.Rename of what is durable itself, and makes its new name durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Dir(filepath.Dir(to))
}
