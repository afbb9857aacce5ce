package owner

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// ErrRunHeld says that a living process holds the lock of a run.
var ErrRunHeld = errors.New("the run belongs to another process")

const (
	// acquireFor bounds the wait for a process that checks the lock. It holds the shared lock between two system calls,
	// for microseconds, and for less than a second even on a machine that swaps.
	acquireFor   = time.Second
	acquirePause = 5 * time.Millisecond
)

// Lock is the lock of a living run. The system releases it when the process ends, however it ends.
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

// isRunID reports whether id can be the name of a folder in the workspace.
func isRunID(id string) bool {
	return filepath.IsLocal(id) && filepath.Base(id) == id && id != "."
}

func lockPath(workspace, runID string) string { return filepath.Join(RunDir(workspace, runID), "lock") }

// Acquire makes the run's folder and takes its lock. It returns [ErrRunHeld] if another process still holds the lock
// after a second. A process that only checks whether the lock is free holds it for an instant.
//
// Nothing may have the run's label before Acquire has returned.
func Acquire(workspace, runID string) (*Lock, error) {
	if !isRunID(runID) {
		return nil, fmt.Errorf("lock the run: its ID %q is not a file name", runID)
	}
	path := lockPath(workspace, runID)
	file := flock.New(path)
	tick := time.NewTicker(acquirePause)
	defer tick.Stop()
	for end := time.Now().Add(acquireFor); ; <-tick.C {
		// The error is ErrExist also if another process deletes the folder just then: without a folder the lock fails,
		// and is tried again.
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the run's folder: %w", err)
		}
		ok, err := file.TryLock()
		if ok && isAt(path, file) {
			return &Lock{dir: filepath.Dir(path), file: file}, nil
		}
		// If the run is over, another process may have removed the lock file or the folder while this one locked it.
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

// Release ends the life of the run: it removes the lock file and releases the lock. The run's folder stays, since it
// holds the logs. Release may be called twice.
func (l *Lock) Release() error {
	var err error
	// A process that opened the file before finds it removed once it has the lock. If the folder was removed, the file
	// at the path is another process's lock.
	if l.file.Locked() && isAt(l.file.Path(), l.file) {
		err = os.Remove(l.file.Path())
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // the whole folder was removed
	}
	if err = errors.Join(err, l.file.Unlock()); err != nil {
		return fmt.Errorf("release the run's lock: %w", err)
	}
	return nil
}

// isAt reports whether an open file is still the one at path.
func isAt(path string, file *flock.Flock) bool {
	current, err := os.Lstat(path)
	if err != nil {
		return false
	}
	opened, err := file.Stat()
	return err == nil && os.SameFile(current, opened)
}

// Killed returns the runs of a workspace that were killed before [Lock.Release]: their lock files exist and are not
// locked. After [Acquire] and Release a run is no longer among them. Runs whose locks cannot be read are not among
// them.
func Killed(workspace string) []string {
	runs, err := os.ReadDir(filepath.Join(workspace, "runs"))
	if err != nil {
		return nil
	}
	var killed []string
	for _, run := range runs {
		if state, err := lockStateOf(workspace, run.Name()); err == nil && state == lockFree {
			killed = append(killed, run.Name())
		}
	}
	return killed
}

// lockState is the state of a run's lock.
type lockState int

const (
	lockGone lockState = iota // the run ended in order, or its folder was deleted
	lockFree                  // the run was killed
	lockHeld
)

// lockStateOf returns the state of a run's lock. It takes the lock shared, so that two processes that check it at the
// same time get the same answer.
func lockStateOf(workspace, runID string) (lockState, error) {
	path := lockPath(workspace, runID)
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return lockGone, nil
	case err != nil:
		return lockGone, err
	case !info.Mode().IsRegular(): // anybody can set labels, and opening a pipe would never end
		return lockGone, fmt.Errorf("%s is not a file", path)
	}
	file := flock.New(path, flock.SetFlag(os.O_RDONLY)) // never creates the file
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
		state = lockGone // the run ended meanwhile
	}
	return state, file.Unlock()
}

// ReleaseKilled removes the lock files of killed runs, as [Killed] returned them, once their containers are removed. It
// leaves a lock that another process holds, which removes it.
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

// EndedRunDir returns the folder of a run that is over, for somebody else to keep something there. It is empty if the
// run lives, or nobody can tell, and if the folder is gone.
func EndedRunDir(workspace, runID string) string {
	if !isRunID(runID) || !filepath.IsAbs(workspace) {
		return ""
	}
	dir := RunDir(workspace, runID)
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return ""
	}
	if state, err := lockStateOf(workspace, runID); err != nil || state == lockHeld {
		return ""
	}
	return dir
}

// DropRuns removes the folders, with the logs, of all runs but the newest keep and those to spare. It leaves the folder
// of a run that lives.
func DropRuns(workspace string, keep int, spare ...string) error {
	entries, err := os.ReadDir(RunsDir(workspace)) // sorted, and an ID begins with its time
	if err != nil || len(entries) <= keep {
		return err
	}
	for _, run := range entries[:len(entries)-keep] {
		if slices.Contains(spare, run.Name()) {
			continue
		}
		if _, err := DropRun(workspace, run.Name()); err != nil {
			return err
		}
	}
	return nil
}

// DropRun removes the folder of a run, with the logs, and reports whether it did: not that of a run that lives.
func DropRun(workspace, run string) (bool, error) {
	lock, err := Acquire(workspace, run)
	if errors.Is(err, ErrRunHeld) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Under another name first: in the folder of that name another process may make a lock meanwhile.
	dropped := lock.Dir() + droppedSuffix
	if err := os.Rename(lock.Dir(), dropped); err != nil {
		return false, errors.Join(err, lock.Release())
	}
	err = os.RemoveAll(dropped)
	if errors.Is(err, os.ErrExist) {
		err = nil // another process was just making a lock in the folder: a later run drops the rest
	}
	err = errors.Join(lock.Release(), err)
	return err == nil, err
}

// RunFolder is the folder of a run in a workspace.
type RunFolder struct {
	Run     string    // ID
	Bytes   int64     // of its files
	Changed time.Time // when it was last written to
	Lives   bool      // or nobody can tell whether it does
}

// RunFolders returns the folders of a workspace's runs, the oldest first.
func RunFolders(workspace string) ([]RunFolder, error) {
	entries, err := os.ReadDir(RunsDir(workspace)) // sorted, and an ID begins with its time
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []RunFolder
	for _, entry := range entries {
		f := RunFolder{Run: entry.Name()}
		state, err := lockStateOf(workspace, f.Run)
		f.Lives = err != nil || state == lockHeld
		err = filepath.WalkDir(RunDir(workspace, f.Run), func(_ string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.ModTime().After(f.Changed) {
				f.Changed = info.ModTime()
			}
			if err == nil && d.Type().IsRegular() {
				f.Bytes += info.Size()
			}
			return err
		})
		if errors.Is(err, os.ErrNotExist) {
			continue // another process drops it
		}
		if err != nil {
			return all, err
		}
		all = append(all, f)
	}
	return all, nil
}

// droppedSuffix ends the name of a run's folder that is being removed. What a killed process leaves of it is dropped as
// a run's folder is.
const droppedSuffix = ".dropped"
