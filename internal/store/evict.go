package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// Evicted is an entry that was deleted, or that would be, or a timing cache. A timing cache has no fingerprint, and the
// step is timing-cache.
type Evicted struct {
	Fingerprint pipeline.Fingerprint `json:"fingerprint,omitempty"`
	Step        pipeline.ID          `json:"step,omitempty"` // empty where the manifest cannot be read
	Bytes       int64                `json:"bytes"`          // others may have some of its files, too
	Used        time.Time            `json:"used"`           // when it was last committed or read

	usage Usage
}

// candidate is a generation that may be evicted.
type candidate struct {
	Evicted
	gen string
}

// Evict deletes entries, the least recently used first, and then timing caches, until at most maxBytes bytes are left.
// Entries share files by hard links: bytes go with the last entry that has them.
// It skips entries that a process reads and entries that are pinned, so more may be left. After an error it goes on,
// and returns the error with what it deleted.
func (s *Store) Evict(ctx context.Context, maxBytes int64) ([]Evicted, error) {
	return s.evict(ctx, maxBytes, s.discard, false)
}

// Evictable returns what [Store.Evict] would delete after a [Store.Unpin] with the same needed. It deletes nothing.
func (s *Store) Evictable(ctx context.Context, maxBytes int64, needed func(Pin) bool) ([]Evicted, error) {
	discardable := func(fp pipeline.Fingerprint, gen string) (bool, error) { return s.discardable(fp, gen, needed) }
	return s.evict(ctx, maxBytes, discardable, true)
}

func (s *Store) evict(
	ctx context.Context, maxBytes int64, discard func(pipeline.Fingerprint, string) (bool, error), dryRun bool,
) ([]Evicted, error) {
	all, err := s.candidates(ctx)
	if err != nil {
		return nil, fmt.Errorf("evict from the cache: %w", err)
	}
	left := newUsage()
	for _, c := range all {
		left.include(c.usage)
	}
	total := left.Bytes()
	slices.SortStableFunc(all, func(a, b candidate) int { return a.Used.Compare(b.Used) })
	var gone []Evicted
	var errs []error
	for _, c := range all {
		if total <= maxBytes {
			break
		}
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		ok, err := discard(c.Fingerprint, c.gen)
		if ok {
			gone = append(gone, c.Evicted)
			total -= left.exclude(c.usage)
		}
		errs = append(errs, err)
	}
	if ctx.Err() == nil {
		caches, err := s.evictTimingCaches(maxBytes, total, dryRun)
		gone, errs = append(gone, caches...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return gone, fmt.Errorf("evict from the cache: %w", err)
	}
	return gone, nil
}

func (s *Store) candidates(ctx context.Context) ([]candidate, error) {
	var all []candidate
	err := s.visitEntries(ctx, func(fp pipeline.Fingerprint, gens []string) error {
		for _, gen := range gens {
			c, err := s.candidate(ctx, fp, gen)
			if err != nil {
				return err
			}
			all = append(all, c)
		}
		return nil
	})
	return all, err
}

// candidate measures a generation. A retired one, or one without a manifest, has the zero time and is evicted first.
func (s *Store) candidate(ctx context.Context, fp pipeline.Fingerprint, gen string) (candidate, error) {
	c := candidate{Evicted: Evicted{Fingerprint: fp}, gen: gen}
	dir := s.path("entries", string(fp), gen)
	path := filepath.Join(dir, manifestName)
	if info, err := os.Lstat(path); err == nil {
		c.Used = info.ModTime()
	}
	if data, err := os.ReadFile(path); err == nil {
		if m, err := decodeManifest(data); err == nil {
			c.Step = m.Step
		}
	}
	var err error
	c.usage, err = usageOf(ctx, dir)
	c.Bytes = c.usage.Bytes()
	return c, err
}
