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
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/store"
)

// collected is what gc removed, or would.
type collected struct {
	Containers []serving.Leftover `json:"containers"`
	Entries    []store.Evicted    `json:"entries"`
	Freed      int64              `json:"freed_bytes"` // of the cache; unless DryRun with what runs left half made
	DryRun     bool               `json:"dry_run"`
}

// String is all of it in one line.
func (c collected) String() string {
	var parts []string
	if n := len(c.Containers); n > 0 {
		parts = append(parts, printable.Count(n, "container"))
	}
	rest := c.Freed
	for _, e := range c.Entries {
		rest -= e.Bytes
	}
	if n := len(c.Entries); n > 0 {
		parts = append(parts, printable.Count(n, "result"))
	}
	if rest > 0 {
		parts = append(parts, "leftovers of runs")
	}
	if len(parts) == 0 && c.DryRun {
		return "no container and no result would be removed"
	}
	if len(parts) == 0 {
		return "nothing is to be removed"
	}
	said := "removed "
	if c.DryRun {
		said = "would remove "
	}
	said += printable.List(parts)
	if c.DryRun {
		return fmt.Sprintf("%s: %s would be freed", said, bytesize.Format(c.Freed))
	}
	return fmt.Sprintf("%s: %s freed", said, bytesize.Format(c.Freed))
}

type gcFlags struct {
	folderFlags
	foreign, dryRun bool
	size            string
	format          format
}

func (a *App) gcCommand() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what dead runs left, and what the cache holds beyond its size",
		Long: `gc removes the containers of runs that are gone and half-made results, as each run does when it starts, and then the
least recently used results until the cache is small enough. It never touches a living run, a ready server, or the model
repository that a workspace's link names or its server serves. What that was made of may go: the next run then makes weights,
ONNX model, engine and DALI pipeline anew, although the model repository made of them is there.

Each line says what went, and the last one how much was freed. --dry-run does not count half-made results.`,
		Example: `  # what would go
  dalirun gc --dry-run

  # everything that is not in use
  dalirun gc --cache-size 0

  # batch containers that other hosts left on a shared container engine
  dalirun gc --foreign`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := a.collect(cmd.Context(), f)
			if f.format == asJSON {
				return errors.Join(err, stdout.WriteJSON(a.Stdout, got))
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
			if err != nil && len(got.Containers)+len(got.Entries) == 0 {
				return err // nobody knows that there was nothing
			}
			_, lost := fmt.Fprintln(a.Stdout, got)
			return errors.Join(err, lost)
		},
	}
	f.flags(a, cmd)
	formatFlag(cmd, &f.format)
	cmd.Flags().BoolVar(&f.foreign, "foreign", false, "also batch containers that other hosts made")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would go")
	cmd.Flags().StringVar(&f.size, "cache-size", "20GiB", "how large the cache may stay")
	return cmd
}

func (a *App) collect(ctx context.Context, f gcFlags) (collected, error) {
	got := collected{Containers: []serving.Leftover{}, Entries: []store.Evicted{}, DryRun: f.dryRun}
	size, err := units.RAMInBytes(f.size)
	if err != nil {
		return got, usagef("as in 20GiB", "%s: %q is no size", settingsOf(f.set).Origin("cache-size"), f.size)
	}
	found, err := f.find()
	if err != nil {
		return got, err
	}
	a.folders = found.Named()
	if found.Doubt != "" {
		warn(a.Stderr, found.Doubt)
	}
	cache, err := found.OpenCache()
	if err != nil {
		return got, err
	}
	containers, err := a.collectContainers(ctx, f, found.Workspace)
	got.Containers = append(got.Containers, containers...)
	if err != nil {
		return got, err // what a container may still write to stays
	}
	var entries []store.Evicted
	if f.dryRun {
		entries, err = cache.Evictable(ctx, size, needed)
		for _, e := range entries {
			got.Freed += e.Bytes
		}
	} else {
		before, beforeErr := cache.Size(ctx)
		err = errors.Join(cache.Unpin(ctx, needed), cache.Sweep(ctx)) // in this order: a pin keeps what counts no longer
		var evictErr error
		entries, evictErr = cache.Evict(ctx, size)
		after, afterErr := cache.Size(ctx)
		got.Freed = max(before-after, 0) // others may have filled it meanwhile
		err = errors.Join(beforeErr, err, evictErr, afterErr)
	}
	got.Entries = append(got.Entries, entries...)
	return got, err
}

func (a *App) collectContainers(ctx context.Context, f gcFlags, workspace string) ([]serving.Leftover, error) {
	servers, err := a.servers(ctx)
	if err != nil {
		return nil, err
	}
	if f.dryRun {
		return servers.Leftovers(ctx, f.foreign)
	}
	return servers.Sweep(ctx, workspace, f.foreign)
}

// needed says whether a workspace still needs an entry that it pinned.
func needed(p store.Pin) bool { return owner.NeedsRepository(p.Name, p.Holds) }
