package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/bytesize"
)

const (
	// timingCachesDir is the folder of the timing caches. It must keep its name, which users' caches have.
	timingCachesDir = "timings"
	// keptTimingCaches is how many timing caches are kept, the last used ones. Each is for a GPU and a TensorRT, and a
	// host has few of both.
	keptTimingCaches = 16
	// maxTimingCache bounds the size of a timing cache, in bytes. ResNet50's has 0.9 MB; it grows with each model and
	// shape.
	maxTimingCache = 64 << 20
)

// A timing cache is a file timings/<hash of name>: a line with its name and checksum, and then TensorRT's bytes. Its
// loss costs a minute. So a damaged one counts as absent, and of two builders at the same time the last one's is kept.

// Load copies the timing cache of a name to the new file path, and reports whether there was one. A damaged one counts
// as absent.
func (s *Store) Load(ctx context.Context, name, path string) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	data, err := s.timingCache(name)
	if err == nil && data == nil && s.below != nil && !exists(s.timingCachePath(name)) {
		data, err = s.below.timingCache(name)
	}
	if err != nil || data == nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return false, fmt.Errorf("load the timing cache of %s: %w", name, err)
	}
	now := time.Now()
	_ = os.Chtimes(s.timingCachePath(name), now, now) // a read-only cache is useful too
	return true, nil
}

// Keep replaces the timing cache of a name by the file at path, and drops the least recently used ones beyond
// keptTimingCaches.
func (s *Store) Keep(ctx context.Context, name, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.Size() > maxTimingCache:
		err = fmt.Errorf("it has %d bytes, more than %s", info.Size(), bytesize.Format(maxTimingCache))
	default:
		err = s.keepTimingCache(name, path)
	}
	if err != nil {
		return fmt.Errorf("keep the timing cache of %s: %w", name, err)
	}
	return nil
}

func (s *Store) keepTimingCache(name, path string) error {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return err
	}
	if kept, err := s.timingCache(name); err == nil && bytes.Equal(kept, data) {
		return nil // no need to wait for a disk
	}
	if err := s.write(s.timingCachePath(name), append(timingCacheHead(name, data), data...)); err != nil {
		return err
	}
	all, err := s.timingCaches()
	for len(all) > keptTimingCaches {
		err = errors.Join(err, removeFile(all[0].path))
		all = all[1:]
	}
	return err
}

// Forget drops the timing cache of a name, if there is one. One of the store below stays there, and an empty one in its
// place here keeps it from being loaded again.
func (s *Store) Forget(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.below != nil {
		return s.write(s.timingCachePath(name), nil)
	}
	return removeFile(s.timingCachePath(name))
}

// evictTimingCaches deletes timing caches, the least recently used first, until they and the remaining entries have at
// most maxBytes bytes. It is called after entries were evicted, since a timing cache is small and saves a minute.
func (s *Store) evictTimingCaches(maxBytes, entries int64, dryRun bool) ([]Evicted, error) {
	all, err := s.timingCaches()
	if err != nil {
		return nil, err
	}
	total := entries
	for _, t := range all {
		total += t.bytes
	}
	var gone []Evicted
	for _, t := range all {
		if total <= maxBytes {
			break
		}
		if !dryRun {
			if err := removeFile(t.path); err != nil {
				return gone, err
			}
		}
		total -= t.bytes
		gone = append(gone, Evicted{Step: "timing-cache", Bytes: t.bytes, Used: t.used, usage: t.usage})
	}
	return gone, nil
}

func (s *Store) timingCachePath(name string) string { return s.path(timingCachesDir, hashName(name)) }

func timingCacheHead(name string, data []byte) []byte {
	return fmt.Appendf(nil, "timing cache %q sha256:%x\n", name, sha256.Sum256(data))
}

// timingCache returns the timing cache of a name; nil if there is none or it is damaged.
func (s *Store) timingCache(name string) ([]byte, error) {
	file, err := os.ReadFile(s.timingCachePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the timing cache of %s: %w", name, err)
	}
	i := bytes.IndexByte(file, '\n') + 1
	if data := file[i:]; i > 0 && bytes.Equal(file[:i], timingCacheHead(name, data)) {
		return data, nil
	}
	return nil, nil
}

// timingCacheFile describes the file of a timing cache.
type timingCacheFile struct {
	path  string
	bytes int64
	used  time.Time
	usage Usage
}

// timingCaches lists the timing caches, the least recently used first.
func (s *Store) timingCaches() ([]timingCacheFile, error) {
	list, err := os.ReadDir(s.path(timingCachesDir))
	if err != nil {
		return nil, err
	}
	var all []timingCacheFile
	for _, d := range list {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process dropped it
		}
		if err != nil {
			return nil, err
		}
		t := timingCacheFile{path: s.path(timingCachesDir, d.Name()), bytes: info.Size(), used: info.ModTime()}
		t.usage = newUsage()
		t.usage.add(t.path, info)
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b timingCacheFile) int {
		return cmp.Or(a.used.Compare(b.used),
			cmp.Compare(a.path, b.path))
	})
	return all, nil
}
