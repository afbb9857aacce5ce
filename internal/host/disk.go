package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DiskFree returns the bytes that a user without privileges can still write under a path. The path need not exist: the
// nearest parent that does is asked.
func DiskFree(path string) (uint64, error) {
	dir, err := existing(path)
	if err != nil {
		return 0, err
	}
	free, err := free(dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return free, nil
}

func existing(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("free space of %s: %w", path, err)
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir || !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("free space of %s: %w", path, err)
		}
		dir = parent
	}
}
