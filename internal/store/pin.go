package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dalirun/dalirun/pipeline"
)

// Pin is a reason to keep an entry beyond the process that read it, such as a detached server that serves from it.
type Pin struct {
	Name        string               `json:"name"`
	Fingerprint pipeline.Fingerprint `json:"fingerprint"`
}

// Pin keeps the entry of fp until Unpin is called with the same name, such as a workspace's path. One name may pin
// several. The caller holds the entry: without that, it may be evicted before the pin is there.
func (s *Store) Pin(fp pipeline.Fingerprint, name string) error {
	if err := checkName("fingerprint", string(fp)); err != nil {
		return err
	}
	path := s.path("pins", string(fp), hashName(name))
	var err error
	for range 10 { // Unpin removes an empty folder, perhaps just after it was made here
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = s.write(path, []byte(name))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("pin a cache entry for %s: %w", name, err)
	}
	return nil
}

// Unpin takes away all pins of name. Where there are none it does nothing.
func (s *Store) Unpin(name string) error {
	folders, err := os.ReadDir(s.path("pins"))
	errs := []error{err}
	for _, f := range folders {
		path := s.path("pins", f.Name(), hashName(name))
		if err := os.Remove(path); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		_ = os.Remove(filepath.Dir(path)) // only an empty one goes, and it need not
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unpin the cache entries of %s: %w", name, err)
	}
	return nil
}

// Pins lists all pins, so that those of servers that are gone can be taken away.
func (s *Store) Pins(ctx context.Context) ([]Pin, error) {
	folders, err := os.ReadDir(s.path("pins"))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var pins []Pin
	for _, f := range folders {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		files, err := os.ReadDir(s.path("pins", f.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list pins: %w", err)
		}
		for _, file := range files {
			name, err := os.ReadFile(s.path("pins", f.Name(), file.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list pins: %w", err)
			}
			pins = append(pins, Pin{Name: string(name), Fingerprint: pipeline.Fingerprint(f.Name())})
		}
	}
	return pins, nil
}

// pinned reports whether anybody pins fp.
func (s *Store) pinned(fp pipeline.Fingerprint) (bool, error) {
	list, err := os.ReadDir(s.path("pins", string(fp)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(list) > 0, err
}
