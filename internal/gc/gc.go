// Package gc removes what dead runs left: their containers, their half-made results and their logs. On request it makes
// the cache smaller too.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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
	Images    Images // for [Options.KeepFree] alone
	Disks     Disks  // for [Options.KeepFree] alone
}

// Disks say what is free on them.
type Disks interface {
	// DiskFree is how many bytes are free on the disk of a folder.
	DiskFree(ctx context.Context, folder string) (uint64, error)
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
	Images     []Image            `json:"images,omitempty"`
	Runs       []Run              `json:"runs,omitempty"`
	Kept       []Kept             `json:"kept,omitempty"`  // although its disk has less free than wanted
	Disks      []Disk             `json:"disks,omitempty"` // that were to be kept free
	store.Loss                    // of the cache; unless DryRun with what runs left half made
	DryRun     bool               `json:"dry_run"`

	leftovers bool // what runs left half made was part of it
}

// Options say what else goes than what dead runs of this host left.
type Options struct {
	Foreign   bool  // batch containers that other hosts made
	CacheSize int64 // in bytes: least recently used results go until the cache is not larger
	// KeepFree is in bytes: images, results and runs go, the least recently used first, until the disks of the container
	// engine, of the cache and of the workspace have as much free. 0 is not asked for.
	KeepFree uint64
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
	got.Entries = append(got.Entries, entries...)
	if o.KeepFree > 0 {
		err = errors.Join(err, p.keepFree(ctx, o.KeepFree, &got))
	}
	after, afterErr := p.Cache.Usage(ctx)
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
	if o.KeepFree > 0 {
		err = errors.Join(err, p.keepFree(ctx, o.KeepFree, &got))
	}
	got.Loss = usage.LossTo(usage.Without(got.Entries))
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
	for _, i := range c.Images {
		name := strings.Join(i.Names, ", ")
		if name == "" {
			name = i.ID
		}
		fmt.Fprintf(w, "%s image %s: %s, last used %s\n", verb, printable.Line(name), bytesize.Format(i.Bytes),
			i.Used.Format(time.DateTime))
	}
	for _, r := range c.Runs {
		fmt.Fprintf(w, "%s %s of the run %s\n", verb, bytesize.Format(r.Bytes), printable.Line(r.Run))
	}
	for _, k := range c.Kept {
		fmt.Fprintf(w, "kept %s: %s\n", printable.Line(k.What), printable.Line(k.Why))
	}
	_, err := fmt.Fprintln(w, c.summary())
	for _, d := range c.Disks {
		text := bytesize.Format(int64(d.Free)) + " free" //nolint:gosec // no disk has 8 EiB
		if c.DryRun {
			text = "would have " + text
		} else {
			text = "has " + text
		}
		wanted := bytesize.Format(int64(d.Wanted)) //nolint:gosec // it was read as an int64
		switch {
		case d.Free >= d.Wanted:
			text += ", and " + wanted + " were wanted"
		default:
			text += " of " + wanted + " that were wanted: what else is there is used, or not dalirun's"
		}
		_, err = fmt.Fprintf(w, "the disk of %s %s\n", printable.Line(d.Folder), text)
	}
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
	if n := len(c.Images); n > 0 {
		parts = append(parts, printable.Count(n, "image"))
	}
	if n := len(c.Runs); n > 0 {
		parts = append(parts, printable.Count(n, "run"))
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
		return fmt.Sprintf("would remove %s: %s would be freed%s", printable.List(parts), bytesize.Format(c.freed()),
			c.kept())
	default:
		return fmt.Sprintf("removed %s: %s freed%s", printable.List(parts), bytesize.Format(c.freed()), c.kept())
	}
}

// freed is how many bytes of all are freed. Of images it is what the container engine says that each takes.
func (c Collected) freed() int64 {
	sum := c.Freed
	for _, i := range c.Images {
		sum += i.Bytes
	}
	for _, r := range c.Runs {
		sum += r.Bytes
	}
	return sum
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
