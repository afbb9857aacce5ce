package owner

import (
	"crypto/rand"
	"encoding/hex"
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

// RunsDir returns the folder of a workspace's runs.
func RunsDir(workspace string) string { return filepath.Join(workspace, "runs") }

// RunDir returns the folder of a run in a workspace: its lock and its logs.
func RunDir(workspace, runID string) string { return filepath.Join(RunsDir(workspace), runID) }

// NewRunID returns an ID for a run that begins now: its time, by which IDs sort, and a random part.
func NewRunID(now time.Time) string {
	var tail [3]byte
	rand.Read(tail[:])
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(tail[:])
}

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
	file := flock.New(path)
	tick := time.NewTicker(acquirePause)
	defer tick.Stop()
	for end := time.Now().Add(acquireFor); ; <-tick.C {
		// It exists also where another process made it and deleted it meanwhile: then the lock has no folder, and is tried again.
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the run's folder: %w", err)
		}
		ok, err := file.TryLock()
		if ok && isAt(path, file) {
			return &Lock{dir: filepath.Dir(path), file: file}, nil
		}
		// Of a run that is over, another process may have removed the lock as this one took it, or the folder.
		if err = errors.Join(err, file.Unlock()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("lock the run: %w", err)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("lock %s: %w", path, ErrRunHeld)
		}
	}
}

// Dir returns the run's folder.
func (l *Lock) Dir() string { return l.dir }

// Release ends the run's life in order: the lock's file goes. The folder stays, since it holds the logs. It may be called twice.
func (l *Lock) Release() error {
	var err error
	if l.file.Locked() { // whoever took the file before it is gone finds it gone then
		err = os.Remove(l.file.Path())
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // with the folder
	}
	if err = errors.Join(err, l.file.Unlock()); err != nil {
		return fmt.Errorf("release the run's lock: %w", err)
	}
	return nil
}

// isAt says whether an open file is still the one at the path.
func isAt(path string, file *flock.Flock) bool {
	there, err := os.Lstat(path)
	if err != nil {
		return false
	}
	taken, err := file.Stat()
	return err == nil && os.SameFile(there, taken)
}

// Killed returns the runs of a workspace that did not come to [Lock.Release], as their locks tell, which are there and free.
// [Acquire] and Release make that forgotten. Runs that cannot be looked at are not among them.
func Killed(workspace string) []string {
	runs, err := os.ReadDir(filepath.Join(workspace, "runs"))
	if err != nil {
		return nil
	}
	var killed []string
	for _, run := range runs {
		if state, err := look(workspace, run.Name()); err == nil && state == lockFree {
			killed = append(killed, run.Name())
		}
	}
	return killed
}

// lockState is what a look at a run's lock tells.
type lockState int

const (
	lockGone lockState = iota // the run ended in order, or its folder was deleted
	lockFree                  // it was killed
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
	state := lockFree
	if !isAt(path, file) {
		state = lockGone // the run ended as we looked
	}
	return state, file.Unlock()
}

// ReleaseKilled removes the locks of runs that were killed, as [Killed] returned them, once nothing of them is left. One
// that another process holds now is being removed by that one.
func ReleaseKilled(workspace string, runs []string) error {
	for _, run := range runs {
		lock, err := Acquire(workspace, run)
		if errors.Is(err, ErrRunHeld) {
			continue
		}
		if err != nil {
			return err
		}
		if err := lock.Release(); err != nil {
			return err
		}
	}
	return nil
}

// DropRuns removes the folders, with the logs, of all but the newest keep runs. A run that lives keeps its own.
func DropRuns(workspace string, keep int) error {
	entries, err := os.ReadDir(RunsDir(workspace)) // sorted, and an ID begins with its time
	if err != nil || len(entries) <= keep {
		return err
	}
	for _, run := range entries[:len(entries)-keep] {
		lock, err := Acquire(workspace, run.Name())
		if errors.Is(err, ErrRunHeld) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(lock.Dir()), lock.Release()); err != nil {
			return err
		}
	}
	return nil
}
