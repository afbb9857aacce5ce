// Package folders finds the two folders that a command keeps things in, the workspace and the cache. It refuses those
// that hold something else, and those that another user of the host could alter, as what is in them is run.
package folders

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// writable are the rights to a folder of ours that nobody else may have.
	writable = 0o022
	// private are those of a folder that dalirun makes where everybody may make one.
	private = 0o077
)

// Folders are a workspace and a cache.
type Folders struct {
	Workspace string // absolute
	Cache     string // absolute
	// Below is the cache of another trust level, which is read and never written; Cache is then the workspace's own.
	// Absolute; empty if there is none.
	Below string
	Doubt string // why the cache is another one than the usual; empty if it is not
}

// WithCache returns the workspace that [Workspace] found, and the cache that --cache-dir names. Where the cache is the
// usual one and is not safe, it takes another folder in its place.
func WithCache(workspace, cache, usualCache string, settings target.Settings) (Folders, error) {
	f := Folders{Workspace: workspace}
	var err error
	if f.Cache, err = Absolute(cache); err != nil {
		return f, err
	}
	if f.Workspace == f.Cache {
		return f, pipeline.Usagef("name two folders", "%s and %s are both %s",
			settings.Origin("workspace"), settings.Origin("cache-dir"), f.Cache)
	}
	if f.Cache, f.Doubt, err = safeCache(f.Cache, usualCache, settings); err != nil {
		return f, err
	}
	return f, wrongFolder("cache-dir", f.Cache, "dalirun", store.CheckFolder(f.Cache), settings)
}

// ownCache is the folder of a workspace's own cache, which is over one that is read only.
const ownCache = "cache"

// ReadOnly returns the folders of a command that may only read the cache of f: what it makes is kept in the workspace.
func (f Folders) ReadOnly(settings target.Settings) (Folders, error) {
	if f.Doubt != "" { // the one that was meant is not safe
		return f, pipeline.Faultf(pipeline.Environment, "name one with --cache-dir", "%s: %s",
			settings.Origin("cache-readonly"), f.Doubt)
	}
	if _, err := store.OpenReadOnly(f.Cache); err != nil {
		return f, pipeline.Faultf(pipeline.Environment, "name one that is there with --cache-dir, or drop --cache-readonly",
			"%s: %w", settings.Origin("cache-readonly"), err)
	}
	f.Cache, f.Below = filepath.Join(f.Workspace, ownCache), f.Cache
	return f, nil
}

// Workspace returns the absolute path of the workspace that --workspace names, which settings are about.
func Workspace(named string, settings target.Settings) (string, error) {
	dir, err := Absolute(named)
	if err != nil {
		return "", err
	}
	if err := CheckWorkspace(dir, settings); err != nil {
		return "", err
	}
	return dir, wrongFolder("workspace", dir, owner.DefaultWorkspace, owner.CheckWorkspace(dir), settings)
}

// CheckWorkspace refuses a workspace that others could alter. Whoever made it asks again: others may have been first.
func CheckWorkspace(dir string, settings target.Settings) error {
	err := host.CheckOwn(dir, writable)
	if errors.Is(err, syscall.ENOTDIR) {
		return wrongFolder("workspace", dir, owner.DefaultWorkspace, err, settings)
	}
	return unsafeFault(err, "the workspace "+dir, "name a folder of your own with --workspace")
}

// Named are both, for who explains what failed in one.
func (f Folders) Named() []remedy.Folder {
	if f.Below != "" {
		return []remedy.Folder{
			{Path: f.Workspace, What: "the workspace", Flag: "--workspace"},
			{Path: f.Below, What: "the cache that is only read", Flag: "--cache-dir"},
		}
	}
	return []remedy.Folder{
		{Path: f.Workspace, What: "the workspace", Flag: "--workspace"},
		{Path: f.Cache, What: "the cache", Flag: "--cache-dir"},
	}
}

// OpenCache opens the cache. It looks once more whose it is: somebody may have made the folder just before.
func (f Folders) OpenCache() (*store.Store, error) {
	s, err := f.open()
	if err != nil {
		return nil, pipeline.Faultf(pipeline.Environment, "name another with --cache-dir", "%w", err)
	}
	if err := unsafeCache(host.CheckOwn(f.Cache, writable), f.Cache); err != nil {
		return nil, err
	}
	return s, nil
}

func (f Folders) open() (*store.Store, error) {
	if f.Below == "" {
		return store.Open(f.Cache)
	}
	if err := owner.MakeWorkspace(f.Workspace); err != nil {
		return nil, err
	}
	return store.OpenOver(f.Cache, f.Below)
}

// CheckOwn refuses a file of the user, as "the configuration dalirun.yaml", that others of this host could alter.
// What mends the path is in the hint where a command does; instead says what to do in place of that.
func CheckOwn(path, what, instead string) error {
	return unsafeFault(host.CheckOwn(path, writable), what, instead)
}

// unsafeFault is the fault of what [host.CheckOwn] refused; nil if why is.
func unsafeFault(why error, what, instead string) error {
	if why == nil {
		return nil
	}
	if found, ok := errors.AsType[*host.UnsafeError](why); ok {
		if mend := mends(found); mend != "" {
			instead = mend + ", or " + instead
		}
	}
	return pipeline.Faultf(pipeline.Environment, instead, "%s is not safe: %w", what, why)
}

// mends is the command that makes a path safe, for a hint; empty where nobody knows what somebody else may have made of
// it.
func mends(found *host.UnsafeError) string {
	switch path := shell.Quote(found.Path); {
	case found.Foreign:
		chown := fmt.Sprintf("chown -hR %d %s", os.Getuid(), path)
		if os.Getuid() != 0 {
			chown = "sudo " + chown
		}
		return "`" + chown + "` if you trust it"
	case found.Close != 0:
		who, rights := "", "w"
		if found.Close&0o070 != 0 {
			who += "g"
		}
		if found.Close&0o007 != 0 {
			who += "o"
		}
		if found.Close&^writable != 0 {
			rights = "rwx"
		}
		return "`chmod " + who + "-" + rights + " " + path + "`"
	default:
		return ""
	}
}

// wrongFolder is err where the flag named the wrong thing. What the machine has against the folder is found out where
// it is used.
func wrongFolder(flag, dir, own string, err error, settings target.Settings) error {
	switch {
	case errors.Is(err, owner.ErrNotWorkspace), errors.Is(err, store.ErrNotCache):
		return pipeline.Usagef("name a folder of its own, as in --"+flag+" "+filepath.Join(dir, own),
			"%s: %w", settings.Origin(flag), err)
	case errors.Is(err, syscall.ENOTDIR):
		return pipeline.Usagef("name a folder, or one that can be made",
			"%s: %s is no folder", settings.Origin(flag), dir)
	default:
		return nil
	}
}

// Absolute returns the absolute path of a folder, without a look at its disk.
func Absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", pipeline.Usagef("", "find the folder %s: %w", dir, err)
	}
	return abs, nil
}
