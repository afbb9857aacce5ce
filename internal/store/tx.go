package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	workName    = "made"  // folder of a transaction for the builder's files
	stagingName = "entry" // folder of a transaction for the entry to commit
)

// Begin implements [pipeline.Store]. It tries to lock every 50 ms.
func (s *Store) Begin(ctx context.Context, fp pipeline.Fingerprint, waiting func(holder string)) (pipeline.Tx, error) {
	if err := checkName("fingerprint", string(fp)); err != nil {
		return nil, err
	}
	lock, err := s.buildLock(ctx, fp, waiting)
	if err != nil {
		return nil, err
	}
	t := &tx{store: s, fp: fp, lock: lock}
	if t.root, err = os.MkdirTemp(s.path("tmp"), string(fp)+"."); err == nil {
		err = os.Mkdir(t.Dir(), 0o700)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a folder to build in: %w", err), t.Rollback())
	}
	return t, nil
}

// tx is the transaction of a builder. It holds the build lock until it ends.
type tx struct {
	store *Store
	fp    pipeline.Fingerprint
	lock  *flock.Flock
	root  string

	mu    sync.Mutex
	ended bool
}

// Dir implements [pipeline.Tx].
func (t *tx) Dir() string { return filepath.Join(t.root, workName) }

// Rollback implements [pipeline.Tx].
func (t *tx) Rollback() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end()
}

// Abandon implements [pipeline.Tx]. The folder is deleted by the next Sweep.
func (t *tx) Abandon() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil
	}
	t.ended = true
	return releaseBuildLock(t.lock)
}

func (t *tx) end() error {
	if t.ended {
		return nil
	}
	t.ended = true
	var err error
	if t.root != "" {
		if err = removeTree(t.root); err != nil {
			err = fmt.Errorf("remove what was built: %w", err)
		}
	}
	return errors.Join(err, releaseBuildLock(t.lock))
}

// Commit implements [pipeline.Tx]. It ends the transaction in any case: after an error Dir is removed. It retires older
// entries of the fingerprint, which are deleted once they are not read.
func (t *tx) Commit(id pipeline.ID, facts pipeline.Facts, outputs []string) (pipeline.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, errors.New("store the outputs: it was committed or rolled back before")
	}
	// The first error says more than one of the removal. The next Sweep finds what is left, and reports errors.
	defer func() { _ = t.end() }()

	staging := filepath.Join(t.root, stagingName)
	m := manifest{Fingerprint: t.fp, Step: id, Facts: facts, Committed: time.Now().UTC()}
	var err error
	if m.Outputs, err = t.stage(filepath.Join(staging, filesName), outputs); err != nil {
		return nil, fmt.Errorf("store the outputs: %w", err)
	}
	if err := writeManifest(staging, m); err != nil {
		return nil, fmt.Errorf("store the outputs: %w", err)
	}
	// The entry is locked before others can see it, so that it is not evicted before the caller has read it.
	lock, err := shareManifest(filepath.Join(staging, manifestName))
	if err != nil {
		return nil, fmt.Errorf("store the outputs: %w", err)
	}
	dir, err := t.store.publish(t.fp, staging, strings.TrimPrefix(filepath.Base(t.root), string(t.fp)+"."))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store the outputs: %w", err), lock.Unlock())
	}
	t.store.retireOlder(t.fp, filepath.Base(dir))
	return &entry{dir: dir, manifest: m, lock: lock}, nil
}

// stage moves the named outputs to files, makes them durable and read-only, and lists them.
func (t *tx) stage(files string, names []string) ([]output, error) {
	if err := t.checkOutputs(names); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(files, folderMode); err != nil {
		return nil, err
	}
	var staged []output
	for _, name := range names {
		from := filepath.Join(t.Dir(), name)
		info, err := os.Lstat(from)
		if err != nil {
			return nil, err
		}
		if info.IsDir() { // a folder that its owner may not write cannot be moved to another folder
			if err := os.Chmod(from, folderMode); err != nil {
				return nil, err
			}
		}
		if err := os.Rename(from, filepath.Join(files, name)); err != nil {
			return nil, err
		}
		o, err := survey(files, name, true)
		if err != nil {
			return nil, err
		}
		staged = append(staged, o)
	}
	return staged, fsync.Dir(files)
}

// checkOutputs returns an error for names that are not in Dir or not names of outputs.
func (t *tx) checkOutputs(names []string) error {
	var missing []string
	for i, name := range names {
		if !isOutputName(name) {
			return fmt.Errorf("the output %q is not the name of a file or folder", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("the output %s is listed twice", name)
		}
		switch _, err := os.Lstat(filepath.Join(t.Dir(), name)); {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it did not make %s", strings.Join(missing, ", "))
	}
	return nil
}

// publish moves a staged entry to its final folder, and returns that. The random part of its name, which no other has,
// makes the path new, so that no reader of an earlier entry has it.
func (s *Store) publish(fp pipeline.Fingerprint, staging, random string) (string, error) {
	home := s.path("entries", string(fp))
	var err error
	for range 10 { // Sweep and Evict may remove the empty folder just after it was made here
		if err = os.MkdirAll(home, 0o700); err != nil {
			return "", err
		}
		var gens []string
		if gens, err = s.generations(fp); err != nil {
			return "", err
		}
		dir := filepath.Join(home, nextGeneration(gens)+random)
		if err = os.Rename(staging, dir); err == nil {
			if err = errors.Join(fsync.Dir(home), fsync.Dir(filepath.Dir(home))); err != nil {
				err = errors.Join(err, s.retire(fp, filepath.Base(dir)))
			}
			return dir, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", err
}

// nextGeneration returns the first part of a name that sorts after those in gens.
func nextGeneration(gens []string) string {
	last := 0
	for _, g := range gens {
		number, _, _ := strings.Cut(g, "-")
		if n, err := strconv.Atoi(number); err == nil {
			last = max(last, n)
		}
	}
	return fmt.Sprintf("%06d-", last+1)
}

func writeManifest(dir string, m manifest) (err error) {
	data, err := encodeManifest(m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, manifestMode)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(manifestMode), fsync.Write(f, data)); err != nil {
		return err
	}
	return fsync.Dir(dir)
}
