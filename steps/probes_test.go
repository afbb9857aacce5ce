package steps_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// The cache remembers for how long the weights' host did not answer; one that cannot be opened remembers nothing.
func TestCacheProbe(t *testing.T) {
	t.Parallel()
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("it has another format")
	for name, c := range map[string]struct {
		probe steps.CacheProbe
		want  time.Time
	}{
		"a cache": {steps.CacheProbe{Open: func() (steps.Cache, error) { return cache, nil }}, time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)},
		"none":    {steps.CacheProbe{Open: func() (steps.Cache, error) { return nil, broken }}, time.Time{}},
	} {
		if at := c.probe.Unreached(); !at.IsZero() {
			t.Errorf("%s, before: %s", name, at)
		}
		err := c.probe.NoteUnreached(time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC))
		if at := c.probe.Unreached(); !at.Equal(c.want) || (err != nil) != c.want.IsZero() {
			t.Errorf("%s: %s, %v", name, at, err)
		}
		if _, _, ok := c.probe.RememberedImage("a"); ok || (steps.WeightsProbe{Cache: c.probe}).Stored(t.Context(), target.Remote{}) {
			t.Errorf("%s remembers what nobody noted", name)
		}
	}
}
