package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// imagesDir is the folder of the images that runs use: images/<hash of reference>, locked while a run uses it. The time
// of the file is that of the last use.
const imagesDir = "images"

// imageWithin bounds the wait for a process that removes an image, whose files a busy disk deletes in minutes.
const imageWithin = 15 * time.Minute

// HoldImages says that a run uses images, by their references, until release is called or the process ends:
// [Store.TakeImage] leaves them. It waits for a process that removes one, after which the run gets it anew.
func (s *Store) HoldImages(ctx context.Context, refs ...string) (release func() error, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, imageWithin,
		fmt.Errorf("it is being removed, for more than %s", imageWithin))
	defer cancel()
	now := time.Now() // one for all, by which [Store.ImageUsed] shows that they are of one run
	var held []*flock.Flock
	release = func() error {
		var errs []error
		for _, l := range held {
			errs = append(errs, l.Unlock())
		}
		return errors.Join(errs...)
	}
	for _, ref := range refs {
		l, err := s.holdImage(ctx, ref, now)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("note that the image %s is used: %w", ref, err), release())
		}
		held = append(held, l)
		if s.below != nil { // whoever may write there must not remove it either; a lock that is shared writes nothing
			l := flock.New(s.below.imagePath(ref), flock.SetFlag(os.O_RDONLY))
			if ok, err := l.TryRLock(); ok && err == nil {
				held = append(held, l)
			}
		}
	}
	return release, nil
}

func (s *Store) holdImage(ctx context.Context, ref string, now time.Time) (*flock.Flock, error) {
	path := s.imagePath(ref)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		l := flock.New(path)
		ok, err := l.TryRLock()
		if err == nil && ok && isAt(l, path) {
			return l, os.Chtimes(path, now, now)
		}
		if err := errors.Join(err, l.Unlock()); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ImageUsed returns when a run last said that it uses an image; zero if none of this cache ever did.
func (s *Store) ImageUsed(ref string) time.Time {
	info, err := os.Stat(s.imagePath(ref))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// TakeImage calls remove, which removes the image of these references, while no run uses it and none begins to. It
// reports whether it did, without an error.
func (s *Store) TakeImage(refs []string, remove func() error) (done bool, err error) {
	var locks []*flock.Flock
	var drop []string
	defer func() {
		for _, path := range drop {
			err = errors.Join(err, removeFile(path))
		}
		for _, l := range locks {
			err = errors.Join(err, l.Unlock())
		}
	}()
	for _, ref := range refs {
		path := s.imagePath(ref)
		isNew := !exists(path)
		l := flock.New(path)
		ok, err := l.TryLock()
		if err != nil || !ok {
			return false, err
		}
		locks = append(locks, l)
		if !isAt(l, path) { // another process took it meanwhile
			return false, nil
		}
		if isNew { // its time would be one of a use
			drop = append(drop, path)
		}
	}
	if err := remove(); err != nil {
		return false, err
	}
	drop = drop[:0]
	for _, l := range locks {
		drop = append(drop, l.Path())
	}
	return true, nil
}

// ImageHeld reports whether a run uses one of these references.
func (s *Store) ImageHeld(refs []string) (bool, error) {
	for _, ref := range refs {
		l := flock.New(s.imagePath(ref), flock.SetFlag(os.O_RDONLY)) // never creates the file
		free, err := l.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err, l.Unlock()); err != nil || !free {
			return true, err
		}
	}
	return false, nil
}

func (s *Store) imagePath(ref string) string { return s.path(imagesDir, hashName(ref)) }
