package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/folders"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// workspaceFlag says which workspace a command is about.
type workspaceFlag struct {
	workspaceName string         // as it is written
	set           *pflag.FlagSet // all flags of the command
}

func (f *workspaceFlag) flags(cmd *cobra.Command) {
	f.set = cmd.Flags()
	cmd.Flags().StringVar(&f.workspaceName, "workspace", owner.DefaultWorkspace,
		"folder of this project's runs, logs and server")
}

// find returns the folder, whose disk may take foldersWithin to answer.
func (f *workspaceFlag) find(ctx context.Context) (string, error) {
	return f.findWithin(ctx, foldersWithin)
}

func (f *workspaceFlag) findWithin(ctx context.Context, limit time.Duration) (string, error) {
	return onDisk(ctx, limit, f.workspaceName, func() (string, error) {
		return folders.Workspace(f.workspaceName, settingsOf(f.set))
	})
}

// foldersWithin is how long the disks of the folders may take to answer: one may have to start, or to be mounted.
const foldersWithin = 10 * time.Second

// onDisk bounds what every command begins with: a look at its folders.
func onDisk[T any](ctx context.Context, limit time.Duration, folder string, look func() (T, error)) (T, error) {
	found, err := host.OnDisk(ctx, limit, folder, look)
	if errors.Is(err, host.ErrSilentDisk) {
		err = &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: remedy.SilentDisk}
	}
	return found, err
}

// noCacheFlag adds --cache-dir to a command that opens no cache: a script may pass the same flags to all commands. The
// command warns that it is not used.
func noCacheFlag(cmd *cobra.Command) {
	cmd.Flags().String("cache-dir", "", "not used")
}

// folderFlags say where things are kept.
type folderFlags struct {
	workspaceFlag
	cacheName string // as it is written
	usual     string // the cache, where nobody names one
	readOnly  bool   // the cache is another trust level's
}

func (f *folderFlags) flags(a *App, cmd *cobra.Command) {
	f.workspaceFlag.flags(cmd)
	f.usual = a.usualCache()
	cmd.Flags().StringVar(&f.cacheName, "cache-dir", f.usual, "folder of what steps made, shared by all workspaces")
	cmd.Flags().BoolVar(&f.readOnly, "cache-readonly", false,
		"only read the cache, which others trust; what is missing is made and kept in the workspace")
}

// find returns both folders, whose disks may take foldersWithin each to answer.
func (f *folderFlags) find(ctx context.Context) (folders.Folders, error) {
	workspace, err := f.workspaceFlag.find(ctx)
	if err != nil {
		return folders.Folders{}, err
	}
	return f.withCache(ctx, foldersWithin, workspace)
}

func (f *folderFlags) withCache(
	ctx context.Context, limit time.Duration, workspace string,
) (folders.Folders, error) {
	return onDisk(ctx, limit, f.cacheName, func() (folders.Folders, error) {
		found, err := folders.WithCache(workspace, f.cacheName, f.usual, settingsOf(f.set))
		if err != nil || !f.readOnly {
			return found, err
		}
		return found.ReadOnly(settingsOf(f.set))
	})
}

// silence says why folders were not looked at: their disks gave no answer. It is nil for those that did.
type silence struct{ workspace, cache error }

// findSome is find for an examination, which goes on without the folders whose disks are silent. Their paths alone are
// known.
func (f *folderFlags) findSome(ctx context.Context) (found folders.Folders, silent silence, err error) {
	workspace, err := f.findWithin(ctx, host.DiskWithin)
	if errors.Is(err, host.ErrSilentDisk) {
		silent.workspace = err
		workspace, err = folders.Absolute(f.workspaceName)
	}
	if err != nil {
		return found, silent, err
	}
	found, err = f.withCache(ctx, host.DiskWithin, workspace)
	if errors.Is(err, host.ErrSilentDisk) {
		silent.cache = err
		found.Workspace = workspace
		found.Cache, err = folders.Absolute(f.cacheName)
	}
	return found, silent, err
}

// usualCache is where the cache is unless --cache-dir says so.
func (a *App) usualCache() string { return folders.UsualCache(a.env("XDG_CACHE_HOME"), a.env("HOME")) }
