package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/pipeline"
)

// errMoved says that another process deleted an entry while it was opened.
var errMoved = errors.New("the entry was taken away")

// Get implements [pipeline.Store]. It sets the time of the last use, by which Evict orders entries.
func (s *Store) Get(fp pipeline.Fingerprint) (pipeline.Entry, error) {
	e, err := s.open(fp)
	if errors.Is(err, pipeline.ErrMiss) && s.below != nil {
		e, err = s.adopt(fp)
	}
	if err != nil {
		return nil, err
	}
	if err := e.checkTimes(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(e.dir, manifestName), now, now) // a read-only cache is useful too
	return e, nil
}

// generations lists the folders of fp, newest last.
func (s *Store) generations(fp pipeline.Fingerprint) ([]string, error) {
	list, err := os.ReadDir(s.path("entries", string(fp)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names, err
}

// open returns the newest entry of fp with its manifest read and a shared lock on it.
func (s *Store) open(fp pipeline.Fingerprint) (*entry, error) {
	if err := checkName("fingerprint", string(fp)); err != nil {
		return nil, err
	}
	for range 10 {
		gens, err := s.generations(fp)
		if err != nil {
			return nil, fmt.Errorf("look into the cache: %w", err)
		}
		gen := s.newest(fp, gens)
		if gen == "" {
			break
		}
		e, err := openEntry(s.path("entries", string(fp), gen), fp)
		if !errors.Is(err, errMoved) {
			return e, err
		}
	}
	return nil, pipeline.ErrMiss // also if other processes deleted ten generations in turn
}

// newest returns the last of gens that is not retired, or "".
func (s *Store) newest(fp pipeline.Fingerprint, gens []string) string {
	for _, gen := range slices.Backward(gens) {
		if !exists(s.path("entries", string(fp), gen, retiredName)) {
			return gen
		}
	}
	return ""
}

func openEntry(dir string, fp pipeline.Fingerprint) (*entry, error) {
	path := filepath.Join(dir, manifestName)
	lock, err := shareManifest(path)
	if errors.Is(err, fs.ErrNotExist) {
		if exists(dir) && !exists(filepath.Join(dir, retiredName)) {
			return nil, damage(manifestName, err)
		}
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if !isAt(lock, path) {
		return nil, errors.Join(errMoved, lock.Unlock())
	}
	var m manifest
	if err == nil {
		m, err = decodeManifest(data)
	}
	if err == nil && m.Fingerprint != fp {
		err = fmt.Errorf("it is of another entry, %s", m.Fingerprint)
	}
	switch {
	case errors.Is(err, errVersion):
		return nil, errors.Join(pipeline.ErrMiss, lock.Unlock())
	case err != nil:
		return nil, errors.Join(damage(manifestName, err), lock.Unlock())
	}
	return &entry{dir: dir, manifest: m, lock: lock}, nil
}

// shareManifest takes the shared lock of the manifest at path. A process that deletes an entry holds the exclusive lock
// for a moment, for which it waits. If that takes long, the error is errMoved.
func shareManifest(path string) (*flock.Flock, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 200 {
		l := flock.New(path, flock.SetFlag(os.O_RDONLY)) // never creates the file
		ok, err := l.TryRLock()
		if err != nil {
			return nil, fmt.Errorf("lock the cache entry: %w", err)
		}
		if ok {
			return l, nil
		}
		<-tick.C
	}
	return nil, errMoved
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// entry is a committed result and the shared lock on it.
type entry struct {
	dir      string
	manifest manifest
	lock     *flock.Flock
}

// Values implements [pipeline.Entry].
func (e *entry) Values() pipeline.Values {
	values := pipeline.Values{}
	for _, o := range e.manifest.Outputs {
		values[o.Name] = pipeline.Value{Path: filepath.Join(e.files(), o.Name), Digest: o.Digest}
	}
	return values
}

// Close implements [pipeline.Entry]. It may be called twice.
func (e *entry) Close() error { return e.lock.Unlock() }

func (e *entry) files() string { return filepath.Join(e.dir, filesName) }

// checkTimes compares kinds, sizes and times with the committed ones. A folder's time changes when names in it do.
func (e *entry) checkTimes() error {
	for _, o := range e.manifest.Outputs {
		for _, n := range o.Nodes {
			info, err := os.Lstat(filepath.Join(e.files(), filepath.FromSlash(n.Path)))
			if err == nil {
				err = n.compare(info)
			}
			if err != nil {
				return damage(n.Path, err)
			}
		}
	}
	return nil
}

func (n node) compare(info fs.FileInfo) error {
	switch {
	case info.IsDir() != n.Dir, !info.IsDir() && !info.Mode().IsRegular():
		return fmt.Errorf("it is another kind of file, %s", info.Mode().Type())
	case !n.Dir && info.Size() != n.Size:
		return fmt.Errorf("it has %d bytes instead of %d", info.Size(), n.Size)
	case info.ModTime().UnixNano() != n.MTime:
		return fmt.Errorf("it was changed at %s", info.ModTime().Format(time.DateTime))
	case !n.Dir && (info.Mode()&0o100 != 0) != n.Exec:
		return errors.New("its executable bit was changed")
	}
	return nil
}

// Verify implements [pipeline.Entry]. The error names the first file, in the order of names, that differs from what was
// committed.
func (e *entry) Verify() error {
	for _, want := range e.manifest.Outputs {
		got, err := survey(e.files(), want.Name, false)
		if err != nil {
			return damage(want.Name, err)
		}
		if err := differs(want.Nodes, got.Nodes); err != nil {
			return err
		}
		if got.Digest != want.Digest {
			return damage(want.Name, errors.New("its digest is another"))
		}
	}
	return nil
}

// differs returns the first difference of got from what was committed. Both are in the order of paths.
func differs(want, got []node) error {
	for i, w := range want {
		if i == len(got) || got[i].Path > w.Path {
			return damage(w.Path, errors.New("it is missing"))
		}
		g := got[i]
		switch {
		case g.Path < w.Path:
			return damage(g.Path, errors.New("it does not belong there"))
		case g.Dir != w.Dir:
			return damage(w.Path, errors.New("it is another kind of file"))
		case g.Digest != w.Digest:
			return damage(w.Path, errors.New("its content was changed"))
		case g.Exec != w.Exec:
			return damage(w.Path, errors.New("its executable bit was changed"))
		}
	}
	if len(got) > len(want) {
		return damage(got[len(want)].Path, errors.New("it does not belong there"))
	}
	return nil
}

// damage makes err an ErrDamaged of the named file in an entry, unless it is an error of the process: one without
// descriptors or memory left must not take a good entry for a damaged one.
func damage(name string, err error) error {
	for _, processError := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, processError) {
			return fmt.Errorf("read the cache entry: %w", err)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", pipeline.ErrDamaged, name)
	}
	return fmt.Errorf("%w: %s: %w", pipeline.ErrDamaged, name, err)
}
