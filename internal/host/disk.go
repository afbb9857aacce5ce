package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dalirun/dalirun/internal/bounded"
)

// DiskWithin is how long a disk may take to answer: that of a network may hang.
const DiskWithin = 2 * time.Second

// ErrSilentDisk is what [OnDisk] returns for a disk that does not answer.
var ErrSilentDisk = errors.New("no answer")

// OnDisk returns what do returns, which asks something of the disk of a path. A disk that does not answer within limit
// is an [ErrSilentDisk], and what waits for it goes on until the process ends.
func OnDisk[T any](ctx context.Context, limit time.Duration, path string, do func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("the disk of %s gave %w within %s", path, ErrSilentDisk, limit))
	defer cancel()
	return bounded.Call(ctx, do)
}

// Writable returns nil if this process may make files in the folder at a path, else an [*fs.PathError] that says why
// not: the user's rights, or a file system that is read-only. The path need not exist: the nearest parent that does is
// asked, since the folder would be made in it. A full disk is no reason here; see [System.DiskFree].
func Writable(path string) error {
	dir, err := existing(path)
	if err != nil {
		return err
	}
	about, err := os.Stat(dir)
	if err == nil && !about.IsDir() {
		return &fs.PathError{Op: "write", Path: dir, Err: syscall.ENOTDIR}
	}
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

// Owner returns the user ID of whom a file or folder belongs to. It is false where nothing is there, or the system does
// not tell.
func Owner(path string) (uid int, ok bool) {
	about, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return OwnerOf(about)
}

// OwnerOf is [Owner] of what is known of a file already, such as of a symbolic link itself.
func OwnerOf(about os.FileInfo) (uid int, ok bool) { return ownerOf(about) }

// Device returns the number of the file system that a path is on. It is false where nothing is there, or the system
// does not tell.
func Device(path string) (number uint64, ok bool) {
	about, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return deviceOf(about)
}

func existing(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir || !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		dir = parent
	}
}
