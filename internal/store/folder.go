package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// folders returns the names of the folders in a cache.
func folders() []string {
	return []string{"entries", "tmp", "locks", "pins", "last", "refs", timingCachesDir, imagesDir}
}

// ErrNotCache says that a folder holds files that are not dalirun's.
var ErrNotCache = errors.New("is not empty, and no cache of dalirun")

// CheckFolder returns nil for a folder that is a cache, or can become one because it is empty or does not exist. Any
// other is an [ErrNotCache]. It changes nothing.
func CheckFolder(dir string) error {
	below, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s := &Store{dir: dir}
	if content, err := os.ReadFile(s.path("CACHEDIR.TAG")); err == nil && string(content) == tag {
		return nil
	}
	for _, entry := range below { // Open may have been killed before it wrote the tag
		if !slices.Contains(folders(), entry.Name()) {
			return fmt.Errorf("%s %w: it holds %s", dir, ErrNotCache, entry.Name())
		}
	}
	return nil
}
