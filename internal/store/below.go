package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// OpenOver returns the store in dir, as [Open] does, with another one below it that is read and never written: an entry
// that dir lacks is copied from there, byte by byte against its manifest, and so is a timing cache; remembered values
// are read there. Only shared locks are taken below, which write nothing. What is missing in both is made in dir. The
// error is [ErrNoCache] where below is none.
func OpenOver(dir, below string) (*Store, error) {
	b, err := OpenReadOnly(below)
	if err != nil {
		return nil, err
	}
	s, err := Open(dir)
	if err != nil {
		return nil, err
	}
	s.below = b
	return s, nil
}

// OpenReadOnly returns the store in dir to read it alone: its [Store.Export]. It makes nothing. The error is
// [ErrNoCache] where dir is none.
func OpenReadOnly(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the cache folder: %w", err)
	}
	s := &Store{dir: dir}
	content, err := os.ReadFile(s.path("CACHEDIR.TAG"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(content) != tag {
		return nil, fmt.Errorf("%s %w", dir, ErrNoCache)
	}
	if err != nil {
		return nil, fmt.Errorf("open the cache: %w", err)
	}
	return s, nil
}

// ErrNoCache says that a folder that is to be read is no cache.
var ErrNoCache = errors.New("is no cache of dalirun")

// adopt copies an entry of the store below, so that all that becomes of an entry, as its pins, its links and its end,
// becomes of the copy.
func (s *Store) adopt(fp pipeline.Fingerprint) (*entry, error) {
	from, err := s.below.open(fp)
	if err != nil {
		return nil, err
	}
	defer from.Close() //nolint:errcheck // a lock that was shared; nothing was written
	lock, err := s.tryBuildLock(fp)
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, pipeline.ErrMiss // its builder has it soon, for which Begin waits
	}
	err = s.copyIn(from)
	if err := errors.Join(err, releaseBuildLock(lock)); err != nil {
		return nil, err
	}
	return s.open(fp)
}

func (s *Store) copyIn(from *entry) (err error) {
	fp := from.manifest.Fingerprint
	root, err := os.MkdirTemp(s.path("tmp"), string(fp)+".")
	if err != nil {
		return fmt.Errorf("copy an entry of the cache %s: %w", s.below.dir, err)
	}
	defer func() { err = errors.Join(err, removeTree(root)) }()
	g := staging{dir: filepath.Join(root, stagingName), manifest: from.manifest}
	err = g.begin()
	for _, n := range from.manifest.nodes() {
		if err != nil {
			break
		}
		err = func() (err error) {
			if n.Dir {
				return g.add(n, nil)
			}
			f, err := os.Open(filepath.Join(from.files(), filepath.FromSlash(n.Path)))
			if err != nil {
				return damage(n.Path, err)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			return g.add(n, f)
		}()
	}
	if err == nil {
		err = g.finish()
	}
	if err == nil {
		err = s.take(g.dir, fp, filepath.Base(root))
	}
	if err != nil {
		return fmt.Errorf("copy an entry of the cache %s: %w", s.below.dir, err)
	}
	return nil
}

// take makes a staged entry the one of its fingerprint, whose build lock the caller holds. unique is a name that no
// other has.
func (s *Store) take(staged string, fp pipeline.Fingerprint, unique string) error {
	dir, err := s.publish(fp, staged, strings.TrimPrefix(unique, string(fp)+"."))
	if err == nil {
		s.retireOlder(fp, filepath.Base(dir))
	}
	return err
}

// nodes are all files and folders of an entry, in the order in which they can be made.
func (m manifest) nodes() []node {
	var all []node
	for _, o := range m.Outputs {
		all = append(all, o.Nodes...)
	}
	return all
}

// staging is an entry that is copied into a folder, and found to be what its manifest says before anybody sees it.
type staging struct {
	dir      string
	manifest manifest
}

func (g staging) begin() error { return os.MkdirAll(filepath.Join(g.dir, filesName), folderMode) }

// add makes a folder, or the file whose content r has, no byte more or less than the manifest says.
func (g staging) add(n node, r io.Reader) (err error) {
	path := filepath.Join(g.dir, filesName, filepath.FromSlash(n.Path))
	if n.Dir {
		return os.Mkdir(path, folderMode)
	}
	mode := os.FileMode(fileMode)
	if n.Exec {
		mode = executableMode
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o200)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	written, err := io.Copy(f, io.LimitReader(r, n.Size+1))
	if err != nil {
		return err
	}
	if written != n.Size {
		return damage(n.Path, fmt.Errorf("it has not the %d bytes of the manifest", n.Size))
	}
	return nil
}

// finish hashes all that was added, makes it durable, and gives it the times of the manifest.
func (g staging) finish() error {
	files := filepath.Join(g.dir, filesName)
	for _, want := range g.manifest.Outputs {
		got, err := survey(files, want.Name, true)
		if err != nil {
			return err
		}
		if err := differs(want.Nodes, got.Nodes); err != nil {
			return err
		}
		if got.Digest != want.Digest {
			return damage(want.Name, errors.New("its digest is another"))
		}
	}
	if err := g.stamp(); err != nil {
		return err
	}
	return writeManifest(g.dir, g.manifest)
}

// stamp gives files, and then the folders that hold them, their times.
func (g staging) stamp() error {
	nodes := g.manifest.nodes()
	for _, n := range slices.Backward(nodes) {
		at := time.Unix(0, n.MTime)
		if err := os.Chtimes(filepath.Join(g.dir, filesName, filepath.FromSlash(n.Path)), at, at); err != nil {
			return err
		}
	}
	return nil
}
