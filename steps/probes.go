package steps

import (
	"context"
	"time"

	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// ReachWithin is how long the host of the pretrained weights may take to answer.
	ReachWithin = 3 * time.Second
	// unreached is the key under which the cache remembers that the weights' host gave no answer.
	unreached = "pretrained weights cannot be had since"
)

// Cache is what is needed of a cache to say what earlier runs left in it.
type Cache interface {
	KV
	pipeline.Store
}

// CacheProbe is a [target.CacheProbe] of a cache. One that cannot be opened remembers nothing.
type CacheProbe struct{ Open func() (Cache, error) }

// RememberedImage is what image steps noted.
func (p CacheProbe) RememberedImage(ref string) (id string, env map[string]string, ok bool) {
	cache, err := p.Open()
	if err != nil {
		return "", nil, false
	}
	return RecallImage(cache, ref)
}

// Unreached is what NoteUnreached noted; zero if that is nothing.
func (p CacheProbe) Unreached() time.Time {
	cache, err := p.Open()
	if err != nil {
		return time.Time{}
	}
	since, ok := cache.Recall(unreached)
	if !ok {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return time.Time{}
	}
	return at
}

// NoteUnreached is for the runs that come.
func (p CacheProbe) NoteUnreached(at time.Time) error {
	cache, err := p.Open()
	if err != nil {
		return err
	}
	return cache.Remember(unreached, at.UTC().Format(time.RFC3339))
}

// WeightsProbe is a [target.WeightsProbe] of the pretrained weights.
type WeightsProbe struct {
	Cache   CacheProbe
	Fetcher interface {
		Fetcher
		// Reachable is nil if url answers within limit.
		Reachable(ctx context.Context, url string, limit time.Duration) error
	}
}

// Stored plans the step that makes them.
func (p WeightsProbe) Stored(ctx context.Context, of target.Remote) bool {
	cache, err := p.Cache.Open()
	if err != nil {
		return false
	}
	step := NewPretrainedWeights(p.Fetcher, of)
	plan, err := (&pipeline.Runner{Store: cache}).Plan(ctx, []pipeline.Step{step})
	return err == nil && plan[0].Verdict.Kind == pipeline.WillReuse
}

// FileSum hashes a file, unless the cache knows its hash.
func (p WeightsProbe) FileSum(ctx context.Context, path string) (string, error) {
	cache, err := p.Cache.Open()
	if err != nil {
		return "", err
	}
	sum, err := weightsSum(ctx, path, cache)
	return "sha256:" + sum, err
}

// ProgramProbe is a [target.ProgramProbe] of this program.
type ProgramProbe struct {
	Images ImageFinder
	Cache  CacheProbe
}

// Carried hashes what is embedded, and looks for the local images.
func (p ProgramProbe) Carried(ctx context.Context, model recipe.Recipe, base, arch string) (lock.Lock, error) {
	carried, err := carriedFacts(model)
	if err != nil || base == "" {
		return carried, err
	}
	cache, err := p.Cache.Open()
	if err != nil {
		return carried, err
	}
	carried.Builds, err = localBuilds(ctx, p.Images, cache, base, arch)
	return carried, err
}

// Reachable asks their host.
func (p WeightsProbe) Reachable(ctx context.Context, of target.Remote) error {
	return p.Fetcher.Reachable(ctx, of.URL, ReachWithin)
}
