package owner

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/dalirun/dalirun/internal/fsync"
)

// RepositoryLink returns the path of the link in a workspace under which its newest model repository is found.
func RepositoryLink(workspace string) string { return filepath.Join(workspace, "model_repository") }

// LinkRepository makes the link of [RepositoryLink] lead to a folder, for a run that holds its lock. A reader, and a
// crash at any moment, finds the old one or the new.
func LinkRepository(workspace string, run *Lock, folder string) error {
	next := RepositoryLink(run.Dir())
	if err := os.Symlink(folder, next); err != nil {
		return err
	}
	return fsync.Rename(next, RepositoryLink(workspace))
}

// NeedsRepository says whether a workspace still needs a folder, of which holds says whether a path leads into it: the
// link of [RepositoryLink] does, or the workspace's server, which may be of an earlier run, serves from there. Where
// its server file cannot be read, nobody knows.
func NeedsRepository(workspace string, holds func(path string) bool) bool {
	if holds(RepositoryLink(workspace)) {
		return true
	}
	server, err := ReadServer(workspace)
	if err != nil {
		return !errors.Is(err, ErrNoServer)
	}
	return holds(server.Repository)
}
