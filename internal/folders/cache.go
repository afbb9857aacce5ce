package folders

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"syscall"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// UsualCache is where the cache is unless --cache-dir says so, with the variables XDG_CACHE_HOME and HOME.
func UsualCache(xdgCacheHome, home string) string {
	if filepath.IsAbs(xdgCacheHome) {
		return filepath.Join(xdgCacheHome, "dalirun")
	}
	if home != "" {
		return filepath.Join(home, ".cache", "dalirun")
	}
	return temporaryCache()
}

// CacheFlags name a cache on a command line. There are none where the user's plain environment, in any shell, comes to
// the same one.
func CacheFlags(cache string) []string {
	if me, err := user.Current(); err == nil && cache == filepath.Join(me.HomeDir, ".cache", "dalirun") {
		return nil
	}
	return []string{"--cache-dir=" + cache}
}

// CacheFlags name the caches of f on a command line, as the function does one.
func (f Folders) CacheFlags() []string {
	if f.Below == "" {
		return CacheFlags(f.Cache)
	}
	return []string{"--cache-dir=" + f.Below, "--cache-readonly"}
}

// temporaryCache is a folder of the user among everybody's. Its name can be guessed, so that somebody else may have
// made it first.
func temporaryCache() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("dalirun-%d", os.Getuid()))
}

// safeCache refuses a cache that was named and that another user of the host could alter. In the place of the usual one
// it returns another folder, one that it made before in such a case or a fresh one, and why.
func safeCache(cache, usual string, settings target.Settings) (safe, doubt string, err error) {
	why := host.CheckOwn(cache, writable)
	if cache == temporaryCache() {
		why = host.CheckOwn(cache, private)
	}
	switch {
	case why == nil:
		return cache, "", nil
	case cache != usual && errors.Is(why, syscall.ENOTDIR):
		return cache, "", wrongFolder("cache-dir", cache, "dalirun", why, settings)
	case cache != usual:
		return cache, "", unsafeCache(why, cache)
	}
	if safe, err = ownTemporary(); err != nil {
		return cache, "", pipeline.Faultf(pipeline.Environment, "name a folder with --cache-dir",
			"the cache %s is not safe: %w; make another: %w", cache, why, err)
	}
	return safe, fmt.Sprintf("the cache %s is not used: %v; %s is: name one of your own with --cache-dir, or set HOME",
		cache, why, safe), nil
}

func unsafeCache(why error, cache string) error {
	return unsafeFault(why, "the cache "+cache, "name a folder of your own with --cache-dir")
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
