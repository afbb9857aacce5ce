package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/pipeline"
)

// Drop implements [pipeline.Store]. It hashes the entry once more and keeps an undamaged one: another process may have
// replaced the damaged entry meanwhile. An entry that is read or pinned is retired but not deleted, so that paths into
// it remain valid; Sweep deletes it later.
func (s *Store) Drop(fp pipeline.Fingerprint) error {
	if err := checkName("fingerprint", string(fp)); err != nil {
		return err
	}
	gens, err := s.generations(fp)
	if err != nil {
		return fmt.Errorf("look into the cache: %w", err)
	}
	gen := s.newest(fp, gens)
	if gen == "" {
		return nil
	}
	e, err := openEntry(s.path("entries", string(fp), gen), fp)
	if err == nil {
		err = errors.Join(e.checkTimes(), e.Verify(), e.Close())
	}
	switch {
	case err == nil, errors.Is(err, errMoved), errors.Is(err, pipeline.ErrMiss):
		return nil
	case !errors.Is(err, pipeline.ErrDamaged):
		return err
	}
	if err := s.retire(fp, gen); err != nil {
		return fmt.Errorf("drop a damaged cache entry: %w", err)
	}
	return nil
}

// retire makes a generation invalid, and deletes it unless it is read or pinned.
func (s *Store) retire(fp pipeline.Fingerprint, gen string) error {
	dir := s.path("entries", string(fp), gen)
	err := os.Rename(filepath.Join(dir, manifestName), filepath.Join(dir, retiredName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a generation without a manifest is invalid too
	}
	if err != nil {
		return err
	}
	_, err = s.discard(fp, gen)
	return err
}

// retireOlder retires all generations of fp but keep, whose committer calls it. It ignores errors, after which the
// older ones are deleted later: only the newest generation is valid.
func (s *Store) retireOlder(fp pipeline.Fingerprint, keep string) {
	gens, err := s.generations(fp)
	if err != nil {
		return
	}
	for _, gen := range gens {
		if gen != keep {
			_ = s.retire(fp, gen)
		}
	}
}

// discard deletes a generation unless it is read or pinned, and reports whether it did.
func (s *Store) discard(fp pipeline.Fingerprint, gen string) (bool, error) {
	return s.unused(fp, gen, s.pinned, func(dir string) error {
		if err := s.trash(dir); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(dir)) // which removes an empty folder alone, and need not succeed
		return nil
	})
}

// discardable reports whether discard would delete a generation once the pins that are not needed are removed.
func (s *Store) discardable(fp pipeline.Fingerprint, gen string, needed func(Pin) bool) (bool, error) {
	pinned := func(fp pipeline.Fingerprint, gen string) (bool, error) {
		pins, err := s.pinsAt(fp, gen)
		return slices.ContainsFunc(pins, needed), err
	}
	return s.unused(fp, gen, pinned, func(string) error { return nil })
}

// unused calls discard with the folder of a generation that is neither read nor pinned, and reports whether it did
// without an error.
func (s *Store) unused(
	fp pipeline.Fingerprint, gen string, pinned func(pipeline.Fingerprint, string) (bool, error),
	discard func(dir string) error,
) (_ bool, err error) {
	dir := s.path("entries", string(fp), gen)
	lock, free, err := lockAlone(dir)
	if err != nil || !free {
		return false, err
	}
	if lock != nil {
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}
	// Pins are read only now: a process that pins an entry reads it, so that no pin can be added while this lock is
	// held.
	if kept, err := pinned(fp, gen); err != nil || kept {
		return false, err
	}
	if err := discard(dir); err != nil {
		return false, err
	}
	return true, nil
}

// lockAlone takes the exclusive lock of the generation in dir, if it has a manifest to lock.
func lockAlone(dir string) (lock *flock.Flock, free bool, err error) {
	for _, name := range []string{manifestName, retiredName} {
		path := filepath.Join(dir, name)
		l := flock.New(path, flock.SetFlag(os.O_RDONLY))
		ok, err := l.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("lock the cache entry: %w", err)
		}
		if !ok || isAt(l, path) {
			return l, ok, nil
		}
		if err := l.Unlock(); err != nil { // retired or deleted between opening and locking
			return nil, false, err
		}
	}
	return nil, exists(dir), nil
}

// trash deletes path. One rename takes it away, however long the deletion takes. The rename needs no room, so that
// entries can be deleted from a full disk.
func (s *Store) trash(path string) error {
	bin, err := s.bin(path)
	if err != nil {
		return err
	}
	return removeTree(bin)
}

// bin moves path to a folder that Sweep deletes, and returns its path there. The last two parts of path must be unique.
func (s *Store) bin(path string) (string, error) {
	bin := s.path("tmp", trashPrefix+filepath.Base(filepath.Dir(path))+"."+filepath.Base(path))
	err := os.Rename(path, bin)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another process was quicker
	}
	return bin, err
}
