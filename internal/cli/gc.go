package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/store"
)

// collected is what gc removed, or would.
type collected struct {
	Containers []swept         `json:"containers"`
	Entries    []store.Evicted `json:"entries"`
	DryRun     bool            `json:"dry_run"`
}

type gcFlags struct {
	place
	foreign, dryRun bool
	size            string
	format          *choice
}

func (a *App) gcCommand() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what dead runs left, and what the cache holds beyond its size",
		Long: `gc removes the containers of runs that are gone and half-made results, as each run does when it starts, and then the
least recently used results until the cache is small enough. It never touches a living run, a ready server, or the model
repository that a workspace's link names.`,
		Example: `  # what would go
  dalirun gc --dry-run

  # everything that is not in use
  dalirun gc --cache-size 0

  # batch containers that other hosts left on a shared container engine
  dalirun gc --foreign`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := a.collect(cmd.Context(), f)
			if f.format.value == "json" {
				return errors.Join(err, writeJSON(a.Stdout, got))
			}
			verb := "removed"
			if f.dryRun {
				verb = "would remove"
			}
			for _, c := range got.Containers {
				fmt.Fprintf(a.Stdout, "%s container %s: %s\n", verb, c.Name, printable.Line(c.Reason))
			}
			for _, e := range got.Entries {
				what := "a result that counts no longer"
				if e.Step != "" {
					what = string(e.Step) + ", last used " + e.Used.Format(time.DateTime)
				}
				fmt.Fprintf(a.Stdout, "%s %s of %s\n", verb, bytesize.Format(e.Bytes), what)
			}
			return err
		},
	}
	f.flags(a, cmd)
	f.format = formatFlag(cmd)
	cmd.Flags().BoolVar(&f.foreign, "foreign", false, "also batch containers that other hosts made")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would go")
	cmd.Flags().StringVar(&f.size, "cache-size", "20GiB", "how large the cache may stay")
	return cmd
}

func (a *App) collect(ctx context.Context, f gcFlags) (collected, error) {
	got := collected{Containers: []swept{}, Entries: []store.Evicted{}, DryRun: f.dryRun}
	size, err := units.RAMInBytes(f.size)
	if err != nil {
		return got, usagef("as in 20GiB", "%s: %q is no size", f.origin("cache-size"), f.size)
	}
	if err := f.resolve(); err != nil {
		return got, err
	}
	if f.doubt != "" {
		warn(a.Stderr, f.doubt)
	}
	cache, err := f.open()
	if err != nil {
		return got, err
	}
	containers, err := a.collectContainers(ctx, f)
	got.Containers = append(got.Containers, containers...)
	if err != nil {
		return got, err // what a container may still write to stays
	}
	var entries []store.Evicted
	if f.dryRun {
		entries, err = cache.Evictable(ctx, size, needed)
	} else {
		err = errors.Join(cache.Unpin(ctx, needed), cache.Sweep(ctx)) // in this order: a pin keeps what counts no longer
		var evictErr error
		entries, evictErr = cache.Evict(ctx, size)
		err = errors.Join(err, evictErr)
	}
	got.Entries = append(got.Entries, entries...)
	return got, err
}

func (a *App) collectContainers(ctx context.Context, f gcFlags) ([]swept, error) {
	runtime, err := a.answering(ctx)
	if err != nil {
		return nil, err
	}
	me, err := owner.Here(time.Now())
	if err != nil {
		return nil, err
	}
	if !f.dryRun {
		return sweepContainers(ctx, runtime, me, f.workspace, f.foreign)
	}
	dead, err := deadContainers(ctx, runtime, me, f.foreign)
	var would []swept
	for _, d := range dead {
		would = append(would, d.swept)
	}
	return would, err
}
