package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/pipeline"
)

// pinLock names the lock that a process holds while it changes pins, and the links that the pins are for. It cannot be
// a fingerprint, which is a hash.
const pinLock = "pins"

// pinWithin bounds the wait for another process that changes pins, which takes milliseconds.
const pinWithin = 10 * time.Second

// Pin is a reason to keep an entry beyond the process that read it: a path of somebody, as in a workspace's record of
// what was built, leads into it.
type Pin struct {
	Name  string // of the owner of the path, such as a workspace's path
	entry string // the folder of the entry, one generation of a fingerprint
	file  string
}

// Holds reports whether path leads into the pinned entry, through symbolic links or not. It is true if that cannot be
// found out.
func (p Pin) Holds(path string) bool {
	entry, err := filepath.EvalSymlinks(p.entry)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	rel, err := filepath.Rel(entry, path)
	return err == nil && filepath.IsLocal(rel)
}

// Pin keeps the entry that path is in for name, such as a workspace's path, and then calls point, which makes the link
// or file that leads into the entry. A crash in between leaves a pin without a link, and never a link without a pin. No
// [Store.Unpin] judges the pin before point has returned. The caller must hold the entry open, or it may be evicted
// before it is pinned. One name may pin several entries.
func (s *Store) Pin(ctx context.Context, path, name string, point func() error) error {
	fp, gen, err := s.entryOf(path)
	if err != nil {
		return fmt.Errorf("pin a cache entry for %s: %w", name, err)
	}
	return s.changePins(ctx, func() error {
		if err := s.pin(fp, gen, name); err != nil {
			return fmt.Errorf("pin a cache entry for %s: %w", name, err)
		}
		return point()
	})
}

func (s *Store) pin(fp pipeline.Fingerprint, gen, name string) error {
	path := filepath.Join(s.pinsOf(fp, gen), hashName(name))
	var err error
	for range 10 { // Sweep may remove the empty folder just after it was made here
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = s.write(path, []byte(name))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	return fsync.Dir(s.path("pins"))
}

// Unpin removes the pins that are not needed any more.
func (s *Store) Unpin(ctx context.Context, needed func(Pin) bool) error {
	err := s.changePins(ctx, func() error {
		pins, err := s.pins(ctx)
		errs := []error{err}
		for _, p := range pins {
			if !needed(p) {
				errs = append(errs, removeFile(p.file))
				_ = os.Remove(filepath.Dir(p.file)) // which removes an empty folder alone, and need not succeed
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("unpin cache entries: %w", err)
	}
	return nil
}

// PinNames returns the names for which entries are pinned, each once.
func (s *Store) PinNames(ctx context.Context) ([]string, error) {
	pins, err := s.pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("read for whom the cache keeps entries: %w", err)
	}
	var names []string
	for _, p := range pins {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *Store) changePins(ctx context.Context, change func() error) (err error) {
	limit, cancel := context.WithTimeoutCause(ctx, pinWithin, fmt.Errorf("no end within %s", pinWithin))
	defer cancel()
	lock, err := s.buildLock(limit, pinLock, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, releaseBuildLock(lock)) }()
	return change()
}

func (s *Store) pins(ctx context.Context) ([]Pin, error) {
	folders, err := os.ReadDir(s.path("pins"))
	if err != nil {
		return nil, err
	}
	var pins []Pin
	for _, f := range folders {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		fp, gen, _ := strings.Cut(f.Name(), ".")
		generationPins, err := s.pinsAt(pipeline.Fingerprint(fp), gen)
		if err != nil {
			return nil, err
		}
		pins = append(pins, generationPins...)
	}
	return pins, nil
}

// pinsAt returns the pins of one generation.
func (s *Store) pinsAt(fp pipeline.Fingerprint, gen string) ([]Pin, error) {
	files, err := os.ReadDir(s.pinsOf(fp, gen))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var pins []Pin
	for _, file := range files {
		path := filepath.Join(s.pinsOf(fp, gen), file.Name())
		name, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pins = append(pins, Pin{Name: string(name), entry: s.path("entries", string(fp), gen), file: path})
	}
	return pins, nil
}

// pinsOf returns the folder of the pins of one generation. Neither a fingerprint nor a generation has a dot.
func (s *Store) pinsOf(fp pipeline.Fingerprint, gen string) string {
	return s.path("pins", string(fp)+"."+gen)
}

// pinned reports whether a generation of fp has a pin.
func (s *Store) pinned(fp pipeline.Fingerprint, gen string) (bool, error) {
	list, err := os.ReadDir(s.pinsOf(fp, gen))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(list) > 0, err
}

// entryOf returns the fingerprint and the generation of the entry that a path of an output is in.
func (s *Store) entryOf(path string) (pipeline.Fingerprint, string, error) {
	rel, err := filepath.Rel(s.path("entries"), path)
	if err == nil && filepath.IsLocal(rel) {
		if parts := strings.Split(filepath.ToSlash(rel), "/"); len(parts) > 2 {
			return pipeline.Fingerprint(parts[0]), parts[1], nil
		}
	}
	return "", "", fmt.Errorf("%s is in no entry of the cache", path)
}
