package cli

import (
	"context"
	"errors"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

type gcFlags struct {
	folderFlags
	options gc.Options
	size    string // as it is written
	dryRun  bool
	format  format
}

func (a *App) gcCommand() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what dead runs left, and what the cache holds beyond its size",
		Long: `gc removes the containers of runs that are gone and half-made results, as each run does when it starts, and
then the least recently used results until the cache is small enough. It never touches a living run, a ready server
whose workspace is there, or the model repository that a workspace built last. What that repository was made of may go:
the next run then makes weights, ONNX model, engine and DALI pipeline anew, although the model repository made of them
is there. What a server serves are files of its workspace.

It also removes servers whose workspace was deleted, or is on a disk that is not mounted; no run does that.

Each line says what went and how large it is, and the last one how much that frees: results share files by hard links,
and workspaces have links to what they serve. What is freed, and how large the cache is, counts each file once. What
stays, as a result that is kept or a workspace has it too, is told apart. --dry-run does not count half-made results.`,
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
			if err != nil && len(got.Containers)+len(got.Entries) == 0 {
				return err // nobody knows that there was nothing
			}
			return errors.Join(err, got.WriteText(a.Stdout))
		},
	}
	f.flags(a, cmd)
	formatFlag(cmd, &f.format)
	cmd.Flags().BoolVar(&f.options.Foreign, "foreign", false, "also batch containers that other hosts made")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would go")
	cmd.Flags().StringVar(&f.size, "cache-size", "20GiB", "how large the cache may stay")
	return cmd
}

func (a *App) collect(ctx context.Context, f gcFlags) (got gc.Collected, err error) {
	none := gc.Collected{Containers: []serving.Leftover{}, Entries: []store.Evicted{}, DryRun: f.dryRun}
	if f.options.CacheSize, err = units.RAMInBytes(f.size); err != nil {
		return none, pipeline.Usagef("as in 20GiB", "%s: %q is no size", settingsOf(f.set).Origin("cache-size"), f.size)
	}
	found, err := f.find(ctx)
	if err != nil {
		return none, err
	}
	a.folders = found.Named()
	if found.Doubt != "" {
		warn(a.Stderr, found.Doubt)
	}
	cache, err := found.OpenCache()
	if err != nil {
		return none, err
	}
	servers, err := a.servers(ctx)
	if err != nil {
		return none, err
	}
	place := gc.Place{Servers: servers, Cache: cache, Workspace: found.Workspace}
	if f.dryRun {
		return place.Preview(ctx, f.options)
	}
	return place.Collect(ctx, f.options)
}
