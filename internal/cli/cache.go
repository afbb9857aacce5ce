package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"syscall"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// writable are the rights to a folder of ours that nobody else may have.
	writable = 0o022
	// private are those of a folder that dalirun makes where everybody may make one.
	private = 0o077
)

// cacheDir is where the cache is unless --cache-dir says so.
func (a *App) cacheDir() string {
	if dir := a.env("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dalirun")
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".cache", "dalirun")
	}
	return temporaryCache()
}

// cacheArgument names a cache on a command line, unless the user's plain environment, in any shell, comes to the same one.
func cacheArgument(cache string) []string {
	if me, err := user.Current(); err == nil && cache == filepath.Join(me.HomeDir, ".cache", "dalirun") {
		return nil
	}
	return []string{"--cache-dir=" + cache}
}

// temporaryCache is a folder of the user among everybody's. Its name can be guessed, so that somebody else may have made it first.
func temporaryCache() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("dalirun-%d", os.Getuid()))
}

// settleCache refuses a cache that was named and that another user of the host could alter, as what is in it is run. Where nobody named one, it
// takes another folder: one that it made before in such a case, else a fresh one.
func (p *place) settleCache() error {
	why := host.CheckOwn(p.cache, writable)
	if p.cache == temporaryCache() {
		why = host.CheckOwn(p.cache, private)
	}
	if why == nil {
		return nil
	}
	if p.cache != p.usual && errors.Is(why, syscall.ENOTDIR) {
		return p.refuseFolder("cache-dir", p.cache, "dalirun", why)
	}
	if p.cache != p.usual {
		return unsafeFault(why, "the cache "+p.cache, "name a folder of your own with --cache-dir")
	}
	fresh, err := ownTemporary()
	if err != nil {
		return pipeline.Faultf(pipeline.Environment, "name a folder with --cache-dir", "the cache %s is not safe: %w; make another: %w", p.cache, why, err)
	}
	p.doubt = fmt.Sprintf("the cache %s is not used: %v; %s is: name one of your own with --cache-dir, or set HOME", p.cache, why, fresh)
	p.cache = fresh
	return nil
}

// ownTemporary returns a folder with a name that nobody could guess.
func ownTemporary() (string, error) {
	made, err := filepath.Glob(temporaryCache() + "-*")
	if err != nil {
		return "", err
	}
	for _, dir := range made {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && host.CheckOwn(dir, private) == nil {
			return dir, nil
		}
	}
	return os.MkdirTemp(os.TempDir(), filepath.Base(temporaryCache())+"-")
}

// open opens the cache. It looks once more whose it is: somebody may have made the folder just before.
func (p *place) open() (*store.Store, error) {
	s, err := store.Open(p.cache)
	if err != nil {
		return nil, pipeline.Faultf(pipeline.Environment, "name another with --cache-dir", "%w", err)
	}
	if err := host.CheckOwn(p.cache, writable); err != nil {
		return nil, unsafeFault(err, "the cache "+p.cache, "name a folder of your own with --cache-dir")
	}
	return s, nil
}

// unsafeFault refuses what others of this host could alter, as [host.CheckOwn] found. Rights that are too many can be taken back where they were
// given; of all else instead says what to do.
func unsafeFault(why error, what, instead string) error {
	if unsafe, ok := errors.AsType[*host.UnsafeError](why); ok && unsafe.Close != 0 {
		who := "go"
		if unsafe.Close&0o070 == 0 {
			who = "o"
		}
		rights := "w"
		if unsafe.Close&0o007 != 0o002 {
			rights = "rwx"
		}
		instead = "`chmod " + who + "-" + rights + " " + shell.Quote(unsafe.Path) + "`, or " + instead
	}
	return pipeline.Faultf(pipeline.Environment, instead, "%s is not safe: %w", what, why)
}
