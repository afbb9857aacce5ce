// Package store keeps what builders made, so that no step runs twice for the same facts. It implements
// [pipeline.Store].
//
// One folder serves all workspaces of a user and any number of processes at a time:
//
//	entries/<fingerprint>/<generation>/  manifest.json and files/: one committed result
//	tmp/<fingerprint>.<random>/          a result in the making
//	tmp/trash-<name>/                    what is being deleted
//	tmp/kv-<random>                    a small file on its way to its place
//	locks/<fingerprint>                  locked while that fingerprint is built; names the process
//	locks/pins                           locked while pins change
//	pins/<fingerprint>.<generation>/<hash of name>: the name, such as a workspace's path, that needs that entry
//	last/<hash of workspace>/<step>.json the facts of a step's last result
//	refs/<hash of key>.json              remembered values
//	timings/<hash of name>               TensorRT's timing caches
//	images/<hash of reference>           locked while a run uses that image
//
// An entry is committed by one rename, and its paths are never used again for another entry: a reader's paths stay
// valid whatever other processes do. A process that reads a generation holds a shared lock on its manifest, and one
// that deletes it needs the exclusive lock. The locks are flock(2)'s, and end with the process that holds them.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// poll is the pause between two attempts at a lock that another process holds. It is short compared with any build,
	// and twenty system calls a second cost nothing.
	poll = 50 * time.Millisecond

	// tag is the content of CACHEDIR.TAG: backup programs that know the convention (https://bford.info/cachedir/) leave
	// the folder out.
	tag = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of dalirun. It may be deleted while " +
		"no dalirun runs.\n"
)

// Store is a cache folder. Its methods may be called from several goroutines.
type Store struct {
	dir   string
	below *Store // that is read and never written; nil if there is none
}

var _ pipeline.Store = (*Store)(nil)

// Open returns the store in dir, which it creates if need be, readable for its owner alone.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the cache folder: %w", err)
	}
	s := &Store{dir: dir}
	for _, sub := range folders() {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the cache folder: %w", err)
		}
	}
	if content, err := os.ReadFile(s.path("CACHEDIR.TAG")); err == nil && string(content) == tag {
		return s, nil
	}
	if err := s.write(s.path("CACHEDIR.TAG"), []byte(tag)); err != nil {
		return nil, fmt.Errorf("mark the cache folder: %w", err)
	}
	return s, nil
}

// Dir returns the absolute path of the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// write replaces the content of the file at path. At any moment, and after a crash, the file has the old content or the
// new.
func (s *Store) write(path string, data []byte) error {
	var err error
	for range 10 { // Sweep may take the new file for one of a dead process in the instant before it is locked
		if err = s.writeOnce(path, data); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

func (s *Store) writeOnce(path string, data []byte) (err error) {
	f, err := os.CreateTemp(s.path("tmp"), kvPrefix)
	if err != nil {
		return err
	}
	lock := flock.New(f.Name(), flock.SetFlag(os.O_RDONLY))
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	ok, err := lock.TryLock()
	if err == nil && !ok {
		err = fs.ErrNotExist // Sweep has it, and deletes it
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return fsync.Replace(path, f, data)
}

// removeFile deletes a file, if it exists.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkName refuses a name that is no safe file name. kind says what it names.
func checkName(kind, name string) error {
	const most = 128
	ok := name != "" && len(name) <= most
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if !ok {
		return fmt.Errorf("the %s %q is not a word of up to %d letters, digits, hyphens and underscores", kind, name,
			most)
	}
	return nil
}

// hashName returns a file name for any text.
func hashName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
