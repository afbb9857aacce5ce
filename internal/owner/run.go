package owner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// ErrRunHeld says that a living process holds the lock of a run.
var ErrRunHeld = errors.New("the run belongs to another process")

const (
	// A checker holds the shared lock for the microseconds between two system calls. A second is enough for it even on a machine that swaps.
	acquireFor   = time.Second
	acquirePause = 5 * time.Millisecond
)

// Lock says that a run lives. The system takes it away when the process ends, however it ends.
type Lock struct {
	dir  string
	file *flock.Flock
}

// RunDir returns the folder of a run in a workspace: its lock and its logs.
func RunDir(workspace, runID string) string { return filepath.Join(workspace, "runs", runID) }

// isRunID says whether id can be the name of a folder, and of one in the workspace.
func isRunID(id string) bool {
	return filepath.IsLocal(id) && filepath.Base(id) == id && id != "."
}

func lockPath(workspace, runID string) string { return filepath.Join(RunDir(workspace, runID), "lock") }

// Acquire makes the run's folder and takes its lock. It returns [ErrRunHeld] if another process has it after a second:
// whoever only looks whether the lock is free holds it, shared, for an instant.
//
// Nothing may carry the run's label before Acquire has returned.
func Acquire(workspace, runID string) (*Lock, error) {
	if !isRunID(runID) {
		return nil, fmt.Errorf("lock the run: its ID %q is not a file name", runID)
	}
	path := lockPath(workspace, runID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	file := flock.New(path)
	tick := time.NewTicker(acquirePause)
	defer tick.Stop()
	for end := time.Now().Add(acquireFor); ; <-tick.C {
		ok, err := file.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock the run: %w", err)
		}
		if ok {
			return &Lock{dir: filepath.Dir(path), file: file}, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("lock %s: %w", path, ErrRunHeld)
		}
	}
}

// Dir returns the run's folder.
func (l *Lock) Dir() string { return l.dir }

// Release ends the run's life. The folder stays, since it holds the logs. It may be called twice.
func (l *Lock) Release() error {
	if err := l.file.Unlock(); err != nil {
		return fmt.Errorf("release the run's lock: %w", err)
	}
	return nil
}

// lockState is what a look at a run's lock tells.
type lockState int

const (
	lockGone lockState = iota
	lockFree
	lockHeld
)

// look says how a run's lock is. The lock that it takes for that is shared: two who look at a time see the same.
func look(workspace, runID string) (lockState, error) {
	path := lockPath(workspace, runID)
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return lockGone, nil
	case err != nil:
		return lockGone, err
	case !info.Mode().IsRegular(): // labels are anybody's: opening a pipe would never end
		return lockGone, fmt.Errorf("%s is not a file", path)
	}
	file := flock.New(path, flock.SetFlag(os.O_RDONLY)) // never creates it
	free, err := file.TryRLock()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return lockGone, nil
	case err != nil:
		return lockGone, err
	case !free:
		return lockHeld, nil
	}
	return lockFree, file.Unlock()
}
