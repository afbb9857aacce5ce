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

// Drop implements [pipeline.Store]. It hashes the entry once more and leaves one that is whole: another process may have
// replaced the damaged one meanwhile. Where somebody reads the entry, or has pinned it, it counts no longer but stays
// where it is, so that their paths remain valid; Sweep deletes it afterwards.
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

// retire makes a generation count no longer, and deletes it if nobody uses it.
func (s *Store) retire(fp pipeline.Fingerprint, gen string) error {
	dir := s.path("entries", string(fp), gen)
	err := os.Rename(filepath.Join(dir, manifestName), filepath.Join(dir, retiredName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // without a manifest it does not count either
	}
	if err != nil {
		return err
	}
	_, err = s.discard(fp, gen)
	return err
}

// retireOlder retires all generations of fp but keep, whose committer calls it. An error only means that they are
// deleted later: the newest generation is the one that counts.
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

// discard deletes a generation unless somebody reads or pins it, and reports whether it did.
func (s *Store) discard(fp pipeline.Fingerprint, gen string) (bool, error) {
	return s.unused(fp, gen, s.pinned, func(dir string) error {
		if err := s.trash(dir); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(dir)) // only an empty one goes, and it need not
		return nil
	})
}

// discardable reports whether discard would delete a generation once the pins are gone that are not needed.
func (s *Store) discardable(fp pipeline.Fingerprint, gen string, needed func(Pin) bool) (bool, error) {
	pinned := func(fp pipeline.Fingerprint, gen string) (bool, error) {
		pins, err := s.pinsAt(fp, gen)
		return slices.ContainsFunc(pins, needed), err
	}
	return s.unused(fp, gen, pinned, func(string) error { return nil })
}

// unused calls then with the folder of a generation that nobody reads or pins, and reports whether that was so and went well.
func (s *Store) unused(
	fp pipeline.Fingerprint, gen string, pinned func(pipeline.Fingerprint, string) (bool, error), then func(dir string) error,
) (_ bool, err error) {
	dir := s.path("entries", string(fp), gen)
	lock, free, err := lockAlone(dir)
	if err != nil || !free {
		return false, err
	}
	if lock != nil {
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}
	// Looked for only now: who pins holds the entry, so that no pin can come after the lock was had.
	if kept, err := pinned(fp, gen); err != nil || kept {
		return false, err
	}
	if err := then(dir); err != nil {
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

// trash deletes path. It is out of the way in one step, however long the deletion takes, and that step needs no room on
// the disk: a full one can be emptied.
func (s *Store) trash(path string) error {
	bin, err := s.bin(path)
	if err != nil {
		return err
	}
	return removeTree(bin)
}

// bin moves path to where Sweep deletes it, and returns its path there. The last two parts of paths given are unique.
func (s *Store) bin(path string) (string, error) {
	to := s.path("tmp", trashPrefix+filepath.Base(filepath.Dir(path))+"."+filepath.Base(path))
	err := os.Rename(path, to)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another process was quicker
	}
	return to, err
}
