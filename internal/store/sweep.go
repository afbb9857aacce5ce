package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/pipeline"
)

const (
	trashPrefix = "trash-"
	kvPrefix    = "kv-"
)

// Sweep deletes what dead processes left: folders of builders, lock files, half deleted entries, and retired entries
// that are not read. It leaves all that a living process uses. It takes about a millisecond if nothing is to be
// deleted. It goes on after an error, which names what could not be deleted.
//
// The caller must remove the containers of dead builders first, which may still write into the builders' folders.
func (s *Store) Sweep(ctx context.Context) error {
	err := errors.Join(s.sweepTmp(ctx), s.sweepLocks(ctx), s.sweepRetired(ctx), s.sweepPins())
	if err != nil {
		return fmt.Errorf("tidy up the cache: %w", err)
	}
	return nil
}

func (s *Store) sweepTmp(ctx context.Context) error {
	list, err := os.ReadDir(s.path("tmp"))
	errs := []error{err}
	for _, d := range list {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		path := s.path("tmp", d.Name())
		switch fp, _, isBuild := strings.Cut(d.Name(), "."); {
		case strings.HasPrefix(d.Name(), trashPrefix):
			errs = append(errs, removeTree(path))
		case strings.HasPrefix(d.Name(), kvPrefix):
			errs = append(errs, sweepKV(path))
		case isBuild && checkName("fingerprint", fp) == nil:
			errs = append(errs, s.sweepBuild(pipeline.Fingerprint(fp), path))
		}
	}
	return errors.Join(errs...)
}

// sweepBuild deletes the folder of a builder whose lock is free.
func (s *Store) sweepBuild(fp pipeline.Fingerprint, path string) error {
	lock, err := s.tryBuildLock(fp)
	if err != nil || lock == nil {
		return err
	}
	bin, err := s.bin(path)
	// The lock is released before the deletion, so that the next builder need not wait for it.
	if err := errors.Join(err, releaseBuildLock(lock)); err != nil {
		return err
	}
	return removeTree(bin)
}

// sweepKV deletes a small file whose writer is gone.
func sweepKV(path string) error {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryLock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its writer renamed it
	}
	if err != nil || !ok {
		return err
	}
	if isAt(lock, path) {
		err = removeFile(path) // a living writer would find it locked, and begin anew
	}
	return errors.Join(err, lock.Unlock())
}

// sweepLocks deletes lock files that a killed builder left.
func (s *Store) sweepLocks(ctx context.Context) error {
	list, err := os.ReadDir(s.path("locks"))
	errs := []error{err}
	for _, d := range list {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		lock, err := s.tryBuildLock(pipeline.Fingerprint(d.Name()))
		if lock != nil {
			err = releaseBuildLock(lock)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Store) sweepRetired(ctx context.Context) error {
	return s.visitEntries(ctx, func(fp pipeline.Fingerprint, gens []string) error {
		if len(gens) == 0 {
			_ = os.Remove(s.path("entries", string(fp))) // which fails if it was filled or removed meanwhile
		}
		var errs []error
		for _, gen := range gens {
			if exists(s.path("entries", string(fp), gen, retiredName)) {
				_, err := s.discard(fp, gen)
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// sweepPins deletes folders without pins.
func (s *Store) sweepPins() error {
	list, err := os.ReadDir(s.path("pins"))
	for _, d := range list {
		_ = os.Remove(s.path("pins", d.Name())) // which removes an empty folder alone
	}
	return err
}

// visitEntries calls visit for every fingerprint that has a folder, and joins the errors.
func (s *Store) visitEntries(ctx context.Context, visit func(fp pipeline.Fingerprint, gens []string) error) error {
	list, err := os.ReadDir(s.path("entries"))
	errs := []error{err}
	for _, d := range list {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		fp := pipeline.Fingerprint(d.Name())
		gens, err := s.generations(fp)
		if err == nil {
			err = visit(fp, gens)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
