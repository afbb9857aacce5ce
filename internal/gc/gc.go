// Package gc removes what dead runs left: their containers, their half-made results and their logs. On request it makes
// the cache smaller too.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/store"
)

// KeptRuns is how many runs' logs a workspace keeps, beside those of its server.
const KeptRuns = 20

// Place is where dead runs may have left something.
type Place struct {
	Servers   serving.Servers
	Cache     *store.Store
	Workspace string
}

// Sweep removes what dead runs left, as each run does when it starts, and returns the containers among that. After an
// error some may be left.
func (p Place) Sweep(ctx context.Context) ([]serving.Leftover, error) {
	removed, err := p.Servers.Sweep(ctx, p.Workspace)
	if err == nil {
		err = p.sweepCache(ctx) // after the containers, which may still write
	}
	if err == nil {
		err = owner.DropRuns(p.Workspace, KeptRuns, p.Servers.LogRuns(p.Workspace)...)
	}
	return removed, err
}

// sweepCache removes what is half made and what counts no longer, unless a pin keeps it: so pins go first.
func (p Place) sweepCache(ctx context.Context) error {
	return errors.Join(p.Cache.Unpin(ctx, needed), p.Cache.Sweep(ctx))
}

// needed says whether a workspace still needs an entry that it pinned.
func needed(pin store.Pin) bool { return owner.NeedsRepository(pin.Name, pin.Holds) }

// Collected is what was removed, or would be.
type Collected struct {
	Containers []serving.Leftover `json:"containers"`
	Entries    []store.Evicted    `json:"entries"`
	store.Loss                    // of the cache; unless DryRun with what runs left half made
	DryRun     bool               `json:"dry_run"`

	leftovers bool // what runs left half made was part of it
}

// Options say what else goes than what dead runs of this host left.
type Options struct {
	Foreign   bool  // batch containers that other hosts made
	CacheSize int64 // in bytes: least recently used results go until the cache is not larger
}

// states are those whose containers go too.
func (o Options) states() []owner.State {
	if o.Foreign {
		return []owner.State{owner.Lost, owner.Foreign}
	}
	return []owner.State{owner.Lost}
}

// Collect removes what dead runs left, and results until the cache is small enough. What it returns went, even with an
// error.
func (p Place) Collect(ctx context.Context, o Options) (Collected, error) {
	got := Collected{Containers: []serving.Leftover{}, Entries: []store.Evicted{}}
	containers, err := p.Servers.Sweep(ctx, p.Workspace, o.states()...)
	got.Containers = append(got.Containers, containers...)
	if err != nil {
		return got, err // what a container may still write to stays
	}
	before, beforeErr := p.Cache.Usage(ctx)
	err = p.sweepCache(ctx)
	swept, sweptErr := p.Cache.Usage(ctx)
	entries, evictErr := p.Cache.Evict(ctx, o.CacheSize)
	after, afterErr := p.Cache.Usage(ctx)
	got.Entries = append(got.Entries, entries...)
	usageErr := errors.Join(beforeErr, sweptErr, afterErr)
	if usageErr == nil { // files that were not counted would seem to have gone
		got.leftovers, got.Loss = before.LossTo(swept) != store.Loss{}, before.LossTo(after)
	}
	return got, errors.Join(err, evictErr, usageErr)
}

// Preview returns what [Place.Collect] would remove, but for half-made results. It removes nothing.
func (p Place) Preview(ctx context.Context, o Options) (Collected, error) {
	got := Collected{Containers: []serving.Leftover{}, Entries: []store.Evicted{}, DryRun: true}
	containers, err := p.Servers.Leftovers(ctx, o.states()...)
	got.Containers = append(got.Containers, containers...)
	if err != nil {
		return got, err
	}
	usage, usageErr := p.Cache.Usage(ctx)
	entries, err := p.Cache.Evictable(ctx, o.CacheSize, needed)
	got.Entries = append(got.Entries, entries...)
	got.Loss = usage.LossTo(usage.Without(entries))
	return got, errors.Join(usageErr, err)
}

// WriteText writes for people a line for each thing, and one for all.
func (c Collected) WriteText(w io.Writer) error {
	verb := "removed"
	if c.DryRun {
		verb = "would remove"
	}
	for _, l := range c.Containers {
		fmt.Fprintf(w, "%s container %s: %s\n", verb, l.Name, printable.Line(l.Reason))
	}
	for _, e := range c.Entries {
		what := "a result that counts no longer"
		if e.Step != "" {
			what = string(e.Step) + ", last used " + e.Used.Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s %s of %s\n", verb, bytesize.Format(e.Bytes), what)
	}
	_, err := fmt.Fprintln(w, c.summary())
	return err
}

// summary is all of it in one line.
func (c Collected) summary() string {
	var parts []string
	if n := len(c.Containers); n > 0 {
		parts = append(parts, printable.Count(n, "container"))
	}
	if n := len(c.Entries); n > 0 {
		parts = append(parts, printable.Count(n, "result"))
	}
	if c.leftovers {
		parts = append(parts, "leftovers of runs")
	}
	switch {
	case len(parts) == 0 && c.DryRun:
		return "no container and no result would be removed"
	case len(parts) == 0:
		return "nothing is to be removed"
	case c.DryRun:
		return fmt.Sprintf("would remove %s: %s would be freed%s", printable.List(parts), bytesize.Format(c.Freed), c.kept())
	default:
		return fmt.Sprintf("removed %s: %s freed%s", printable.List(parts), bytesize.Format(c.Freed), c.kept())
	}
}

// kept says of what was removed, or would be, how much is not freed, as other files have it by hard links.
func (c Collected) kept() string {
	var parts []string
	if c.Results > 0 {
		parts = append(parts, bytesize.Format(c.Results)+" stay with results that are kept")
	}
	if c.Workspaces > 0 {
		parts = append(parts, bytesize.Format(c.Workspaces)+" stay with workspaces that serve them")
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + printable.List(parts)
}
