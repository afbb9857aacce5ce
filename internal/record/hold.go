package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrHeld says that another run writes the record.
var ErrHeld = errors.New("another run is writing it")

const (
	// holdFor bounds the wait for a process that looks whether a record is being written. It has the lock between two
	// system calls.
	holdFor   = time.Second
	holdPause = 5 * time.Millisecond
)

// hold makes a file, or takes the one that is there, so that no other run writes it until this process has ended. Where
// the file system has no locks, nobody is kept from it.
func hold(path string) (*flock.Flock, error) {
	lock := flock.New(path)
	tick := time.NewTicker(holdPause)
	defer tick.Stop()
	for end := time.Now().Add(holdFor); ; <-tick.C {
		free, err := lock.TryLock()
		if err != nil || free && isAt(path, lock) {
			return lock, nil
		}
		// The run that had it put another file in its place, or still has it.
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
		if time.Now().After(end) {
			return nil, &fs.PathError{Op: "write", Path: path, Err: ErrHeld}
		}
	}
}

func isAt(path string, lock *flock.Flock) bool {
	current, err := os.Stat(path)
	if err != nil {
		return false
	}
	held, err := lock.Stat()
	return err == nil && os.SameFile(current, held)
}

// isHeld says whether a living run has the lock of a file: its record, or that of its folder.
func isHeld(path string) bool {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY)) // makes no file
	free, err := lock.TryRLock()
	_ = lock.Unlock() // nothing was written
	return err == nil && !free
}

// unfinished is the name under which a record is written anew before it takes the place of one.
var unfinished = regexp.MustCompile(`^\.\d+\.new$`)

// sweep removes what a run left that was killed while it wrote a record anew.
func sweep(path string) {
	dir, base := filepath.Split(path)
	files, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return // making the record says what is wrong
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		rest, found := strings.CutPrefix(f.Name(), base)
		if found && unfinished.MatchString(rest) && f.Type().IsRegular() && !isHeld(name) {
			_ = os.Remove(name) // it is in nobody's way
		}
	}
}

// ofRun is the name of a record in a folder of runs: the ID of its run, and [Suffix].
var ofRun = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{6}` + regexp.QuoteMeta(Suffix))

// Prune removes the oldest records of a folder of runs, all but as many as are to be kept, and what killed runs left of
// one. Records of living runs stay, and so does what has another name than a run's.
func Prune(dir string, keep int) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var records []string // an ID begins with the time of its run
	for _, f := range files {
		run := ofRun.FindString(f.Name())
		switch {
		case run == "" || !f.Type().IsRegular():
		case run == f.Name():
			records = append(records, filepath.Join(dir, run))
		default:
			sweep(filepath.Join(dir, run))
		}
	}
	slices.Sort(records)
	var errs []error
	for _, old := range records[:max(0, len(records)-keep)] {
		if isHeld(old) {
			continue
		}
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
