package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

type gcFlags struct {
	folderFlags
	options gc.Options
	size    string // as it is written
	free    string // as it is written
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

--keep-free also removes images, results and the folders of this workspace's runs, the least recently used first, until
the disks of the container engine, of the cache and of the workspace have that much free. Of images it takes those that
dalirun built or pulled itself, and leaves what somebody gave another name, what a container or a living run uses, what
the last build of any workspace of this cache used, and the images of the last run. Of what the disks lack after that it
tells, and ends with 0. --dry-run does not know which images containers are made of: it names such an image, which
stays.

Each line says what went and how large it is, and the last one how much that frees: results share files by hard links,
and workspaces have links to what they serve. What is freed, and how large the cache is, counts each file once. What
stays, as a result that is kept or a workspace has it too, is told apart. --dry-run does not count half-made results.`,
		Example: `  # what would go
  dalirun gc --dry-run

  # everything that is not in use
  dalirun gc --cache-size 0

  # each night, on a runner: images, results and runs, the least recently used first
  dalirun gc --keep-free 80GiB

  # batch containers that other hosts left on a shared container engine
  dalirun gc --foreign`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := a.collect(cmd.Context(), f)
			if f.format == asJSON {
				return errors.Join(err, stdout.WriteJSON(a.Stdout, got))
			}
			if err != nil && len(got.Containers)+len(got.Entries)+len(got.Disks) == 0 {
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
	cmd.Flags().StringVar(&f.free, "keep-free", "0",
		"how much the disks of the container engine, the cache and the workspace are to have free, as in 80GiB")
	return cmd
}

const sizeHint = "add the unit: 80GiB, 500MiB, or 80b for bytes"

func (a *App) collect(ctx context.Context, f gcFlags) (got gc.Collected, err error) {
	none := gc.Collected{Containers: []serving.Leftover{}, Entries: []store.Evicted{}, DryRun: f.dryRun}
	if f.options.CacheSize, err = bytesize.Parse(f.size); err != nil {
		return none, pipeline.Usagef(sizeHint, "%s: %w", settingsOf(f.set).Origin("cache-size"), err)
	}
	free, err := bytesize.Parse(f.free)
	if err != nil {
		return none, pipeline.Usagef(sizeHint, "%s: %w", settingsOf(f.set).Origin("keep-free"), err)
	}
	f.options.KeepFree = uint64(free) //nolint:gosec // not negative
	found, err := f.find(ctx)
	if err != nil {
		return none, err
	}
	a.folders = found.Named()
	if found.Below != "" && f.options.KeepFree > 0 {
		return none, pipeline.Usagef("run it as whoever may write that cache, without --cache-readonly",
			"%s cannot be with a cache that is only read: which images runs need is noted there",
			settingsOf(f.set).Origin("keep-free"))
	}
	if found.Doubt != "" {
		warn(a.Stderr, found.Doubt)
	}
	cache, err := found.OpenCache()
	if err != nil {
		return none, err
	}
	runtime, err := a.runtime(runtimeOptions{})
	if err != nil {
		return none, err
	}
	info, err := runtime.Info(ctx)
	if err != nil {
		return none, err
	}
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		return none, err
	}
	servers := a.serversOn(runtime, info, me)
	servers.Warn = func(text string) { warn(a.Stderr, a.asCalled(text)) }
	place := gc.Place{
		Servers: servers, Cache: cache, Workspace: found.Workspace, Disks: a.disks(),
		Images: gc.Images{
			Engine: runtime, Disk: imageDisk(info),
			Brought: func(id string) (string, bool) { return steps.Brought(cache, id) }, Of: imagesOf,
		},
	}
	if f.dryRun {
		return place.Preview(ctx, f.options)
	}
	return place.Collect(ctx, f.options)
}

// imageDisk is a folder on the disk where the container engine stores images; empty if this host does not see it, as of
// an engine on another host or in a virtual machine.
func imageDisk(info container.Info) string {
	dir := cmp.Or(info.ImageDir, info.RootDir)
	if _, err := os.Stat(dir); err != nil || info.Remote {
		return ""
	}
	return dir
}

// imagesOf are the images of a build.
func imagesOf(built owner.Built) ([]string, error) {
	var t target.Target
	err := json.Unmarshal(built.Target, &t)
	return steps.ImageRefs(t, steps.Tools{}), err
}

// disks say what is free on those of this host.
func (a *App) disks() gc.Disks {
	if a.measured != nil {
		return a.measured
	}
	return a.system()
}
