package cli

import (
	"errors"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/store"
)

// workspaceFolder says which workspace a command is about.
type workspaceFolder struct {
	workspace string
	set       *pflag.FlagSet // all flags of the command
}

// origin names a flag by where its value was written: the command line, a variable or the configuration.
func (f *workspaceFolder) origin(flag string) string { return settingsOf(f.set).Origin(flag) }

// written returns a flag and its value as they were written.
func (f *workspaceFolder) written(flag, value string) string {
	return settingsOf(f.set).Written(flag, value)
}

func (f *workspaceFolder) flags(cmd *cobra.Command) {
	f.set = cmd.Flags()
	cmd.Flags().StringVar(&f.workspace, "workspace", owner.DefaultWorkspace, "folder of this project's runs, logs and server")
}

// resolve makes the folder absolute, and refuses one that another user of the host could alter or that holds something else.
func (f *workspaceFolder) resolve() error {
	abs, err := filepath.Abs(f.workspace)
	if err != nil {
		return usagef("", "find the folder %s: %w", f.workspace, err)
	}
	f.workspace = abs
	if err := f.checkWorkspace(); err != nil {
		return err
	}
	return f.refuseFolder("workspace", f.workspace, owner.DefaultWorkspace, owner.CheckWorkspace(f.workspace))
}

func (f *workspaceFolder) checkWorkspace() error {
	err := host.CheckOwn(f.workspace, writable)
	if errors.Is(err, syscall.ENOTDIR) {
		return f.refuseFolder("workspace", f.workspace, owner.DefaultWorkspace, err)
	}
	if err != nil {
		return unsafeFault(err, "the workspace "+f.workspace, "name a folder of your own with --workspace")
	}
	return nil
}

// noCacheFlag lets a command that opens no cache be given the one of the others, as a script gives it to all. It is told that it is not used.
func noCacheFlag(cmd *cobra.Command) {
	cmd.Flags().String("cache-dir", "", "not used")
}

// place says where things are kept.
type place struct {
	workspaceFolder
	cache string
	usual string // the cache, where nobody names one
	doubt string // of the cache
}

func (p *place) flags(a *App, cmd *cobra.Command) {
	p.workspaceFolder.flags(cmd)
	p.usual = a.cacheDir()
	cmd.Flags().StringVar(&p.cache, "cache-dir", p.usual, "folder of what steps made, shared by all workspaces")
}

// resolve does for both folders what that of the workspace does.
func (p *place) resolve() error {
	if err := p.workspaceFolder.resolve(); err != nil {
		return err
	}
	abs, err := filepath.Abs(p.cache)
	if err != nil {
		return usagef("", "find the folder %s: %w", p.cache, err)
	}
	p.cache = abs
	if p.workspace == p.cache {
		return usagef("name two folders", "%s and %s are both %s", p.origin("workspace"), p.origin("cache-dir"), p.cache)
	}
	if err := p.settleCache(); err != nil {
		return err
	}
	return p.refuseFolder("cache-dir", p.cache, "dalirun", store.CheckFolder(p.cache))
}

// folders are both, for who explains what failed in one.
func (p *place) folders() []remedy.Folder {
	return []remedy.Folder{{Path: p.workspace, What: "the workspace", Flag: "--workspace"}, {Path: p.cache, What: "the cache", Flag: "--cache-dir"}}
}

// refuseFolder is err where the flag named the wrong thing. What the machine has against the folder is found out where it is used.
func (f *workspaceFolder) refuseFolder(flag, dir, own string, err error) error {
	switch {
	case errors.Is(err, owner.ErrNotWorkspace), errors.Is(err, store.ErrNotCache):
		return usagef("name a folder of its own, as in --"+flag+" "+filepath.Join(dir, own), "%s: %w", f.origin(flag), err)
	case errors.Is(err, syscall.ENOTDIR):
		return usagef("name a folder, or one that can be made", "%s: %s is no folder", f.origin(flag), dir)
	default:
		return nil
	}
}
