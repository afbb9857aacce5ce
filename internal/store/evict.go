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
	gen   string // the generation of an entry
}

// Results returns all entries, the least recently used first, for [Store.EvictOne]. Timing caches are not among them:
// few are kept, and each is small.
func (s *Store) Results(ctx context.Context) ([]Evicted, error) {
	all, err := s.candidates(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what the cache could do without: %w", err)
	}
	return all, nil
}

// EvictOne deletes an entry, and reports whether it did: not one that a process reads or that is pinned.
func (s *Store) EvictOne(e Evicted) (bool, error) {
	gone, err := s.discard(e.Fingerprint, e.gen)
	if err != nil {
		err = fmt.Errorf("evict from the cache: %w", err)
	}
	return gone, err
}

// EvictableOne reports what [Store.EvictOne] would after a [Store.Unpin] with the same needed.
func (s *Store) EvictableOne(e Evicted, needed func(Pin) bool) (bool, error) {
	return s.discardable(e.Fingerprint, e.gen, needed)
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
			gone = append(gone, c)
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

// candidates are all generations, the least recently used first.
func (s *Store) candidates(ctx context.Context) ([]Evicted, error) {
	var all []Evicted
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
	slices.SortStableFunc(all, func(a, b Evicted) int { return a.Used.Compare(b.Used) })
	return all, err
}

// candidate measures a generation. A retired one, or one without a manifest, has the zero time and is evicted first.
func (s *Store) candidate(ctx context.Context, fp pipeline.Fingerprint, gen string) (Evicted, error) {
	c := Evicted{Fingerprint: fp, gen: gen}
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
