package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/pipeline"
)

// holder is the process that builds, as it writes it into its lock file.
type holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

func (h holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d, since %s", h.PID, h.Since.Local().Format(time.TimeOnly))
}

// tryBuildLock returns the lock for building fp, or nil while another process or goroutine holds it.
//
// The holder deletes the lock's file on release. So a file may be deleted between opening and locking it, and the lock
// of a file without a name protects nothing: then it tries again.
func (s *Store) tryBuildLock(fp pipeline.Fingerprint) (*flock.Flock, error) {
	path := s.path("locks", string(fp))
	for range 10 {
		l := flock.New(path)
		switch ok, err := l.TryLock(); {
		case err != nil:
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case !ok:
			return nil, nil //nolint:nilnil // a lock that another holds is neither lock nor error
		}
		if isAt(l, path) {
			return l, nil
		}
		if err := l.Unlock(); err != nil {
			return nil, fmt.Errorf("unlock %s: %w", path, err)
		}
	}
	return nil, nil //nolint:nilnil // ten releases within microseconds: held by others, in turns
}

// isAt reports whether the file that l holds is the one at path.
func isAt(l *flock.Flock, path string) bool {
	opened, err := l.Stat()
	if err != nil {
		return false
	}
	current, err := os.Stat(path)
	return err == nil && os.SameFile(opened, current)
}

// releaseBuildLock deletes the lock's file, then unlocks it.
func releaseBuildLock(l *flock.Flock) error {
	return errors.Join(removeFile(l.Path()), l.Unlock())
}

// buildLock waits for the lock of fp.
func (s *Store) buildLock(ctx context.Context, fp pipeline.Fingerprint, waiting func(string)) (*flock.Flock, error) {
	path := s.path("locks", string(fp))
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for attempt := 0; ; attempt++ {
		l, err := s.tryBuildLock(fp)
		if err != nil {
			return nil, err
		}
		if l != nil {
			// Not by rename: the lock is the file's, not its name's.
			data, err := json.Marshal(holder{PID: os.Getpid(), Since: time.Now()})
			if err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), releaseBuildLock(l))
			}
			return l, nil
		}
		// Sweep holds a lock for less than a pause, which is not worth a message.
		if attempt == 1 && waiting != nil {
			waiting(whoHolds(path).String())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, who works on the same: %w", whoHolds(path), context.Cause(ctx))
		}
	}
}

// whoHolds reads the holder from a lock file. It is zero if the file is empty or deleted by now.
func whoHolds(path string) holder {
	var h holder
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return holder{}
	}
	return h
}
