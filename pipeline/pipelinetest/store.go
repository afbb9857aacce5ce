// Package pipelinetest helps to test what uses a [pipeline.Store]: a store in memory, and the contract that every store
// keeps.
package pipelinetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// Store is a [pipeline.Store] that remembers in memory what it keeps in a test's folder. At the end of the test it
// reports entries that were not closed and transactions that did not end.
type Store struct {
	dir string

	mu       sync.Mutex
	made     int // folders so far
	open     int // entries
	entries  map[pipeline.Fingerprint]*stored
	building map[pipeline.Fingerprint]chan struct{} // closed when the builder is done
	last     map[string]pipeline.Facts
}

var _ pipeline.Store = (*Store)(nil)

// NewStore returns an empty store for tb.
func NewStore(tb testing.TB) *Store {
	tb.Helper()
	s := &Store{
		dir:      tb.TempDir(),
		entries:  map[pipeline.Fingerprint]*stored{},
		building: map[pipeline.Fingerprint]chan struct{}{},
		last:     map[string]pipeline.Facts{},
	}
	tb.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open != 0 {
			tb.Errorf("%d entries of the store were not closed", s.open)
		}
		if len(s.building) != 0 {
			tb.Errorf("%d transactions were neither committed nor rolled back", len(s.building))
		}
	})
	return s
}

// Evict forgets fp, as a cache that is too full does.
func (s *Store) Evict(fp pipeline.Fingerprint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, fp)
}

// Fingerprints returns those of all entries of a step.
func (s *Store) Fingerprints(id pipeline.ID) []pipeline.Fingerprint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []pipeline.Fingerprint
	for fp, e := range s.entries {
		if e.step == id {
			all = append(all, fp)
		}
	}
	return all
}

// Get implements [pipeline.Store].
func (s *Store) Get(fp pipeline.Fingerprint) (pipeline.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[fp]
	if e == nil {
		return nil, pipeline.ErrMiss
	}
	for _, o := range e.outputs {
		if err := o.check(false); err != nil {
			return nil, err
		}
	}
	s.open++
	return &entry{stored: e, store: s}, nil
}

// Last implements [pipeline.Store].
func (s *Store) Last(workspace string, id pipeline.ID) (pipeline.Facts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.last[workspace+"\n"+string(id)]), nil
}

// Note implements [pipeline.Store].
func (s *Store) Note(workspace string, id pipeline.ID, facts pipeline.Facts) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[workspace+"\n"+string(id)] = maps.Clone(facts)
	return nil
}

// Begin implements [pipeline.Store].
func (s *Store) Begin(ctx context.Context, fp pipeline.Fingerprint, waiting func(holder string)) (pipeline.Tx, error) {
	for reported := false; ; reported = true {
		busy, t, err := s.tryBegin(fp)
		if t != nil || err != nil {
			return t, err
		}
		if !reported && waiting != nil {
			waiting("another builder")
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Store) tryBegin(fp pipeline.Fingerprint) (busy chan struct{}, _ pipeline.Tx, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if busy := s.building[fp]; busy != nil {
		return busy, nil, nil
	}
	s.made++
	t := &tx{store: s, fp: fp, dir: filepath.Join(s.dir, strconv.Itoa(s.made))}
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return nil, nil, err
	}
	s.building[fp] = make(chan struct{})
	return nil, t, nil
}

// Drop implements [pipeline.Store].
func (s *Store) Drop(fp pipeline.Fingerprint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[fp]; e != nil && e.verify() != nil {
		delete(s.entries, fp) // its files stay until the end of the test, for who reads them
	}
	return nil
}

type stored struct {
	step    pipeline.ID
	outputs map[string]output
}

type output struct {
	path   string
	stats  string // names, kinds, sizes and times, without contents
	digest string
}

func (s *stored) verify() error {
	for _, o := range s.outputs {
		if err := o.check(true); err != nil {
			return err
		}
	}
	return nil
}

func (o output) check(contents bool) error {
	now, err := survey(o.path, contents)
	name := filepath.Base(o.path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", pipeline.ErrDamaged, name, err)
	case now.stats != o.stats, contents && now.digest != o.digest:
		return fmt.Errorf("%w: %s was changed", pipeline.ErrDamaged, name)
	default:
		return nil
	}
}

func survey(root string, contents bool) (output, error) {
	var stats strings.Builder
	h := sha256.New()
	files := os.DirFS(filepath.Dir(root))
	base := filepath.Base(root)
	err := fs.WalkDir(files, base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, base)
		fmt.Fprintf(&stats, "%q %s %d %d\n", name, info.Mode().Type(), info.Size(), info.ModTime().UnixNano())
		fmt.Fprintf(h, "%q %s\n", name, info.Mode().Type())
		if !contents || d.IsDir() {
			return nil
		}
		data, err := fs.ReadFile(files, path)
		fmt.Fprintf(h, "%q\n", data)
		return err
	})
	return output{root, stats.String(), "sha256:" + hex.EncodeToString(h.Sum(nil))}, err
}

type entry struct {
	*stored
	store *Store
	once  sync.Once
}

func (e *entry) Values() pipeline.Values {
	values := pipeline.Values{}
	for name, o := range e.outputs {
		values[name] = pipeline.Value{Path: o.path, Digest: o.digest}
	}
	return values
}

func (e *entry) Verify() error { return e.verify() }

func (e *entry) Close() error {
	e.once.Do(func() {
		e.store.mu.Lock()
		defer e.store.mu.Unlock()
		e.store.open--
	})
	return nil
}

type tx struct {
	store *Store
	fp    pipeline.Fingerprint
	dir   string
	ended bool // guarded by store.mu
}

func (t *tx) Dir() string { return t.dir }

// Commit leaves the outputs where they are: the folder of a transaction is never used again.
func (t *tx) Commit(id pipeline.ID, _ pipeline.Facts, outputs []string) (pipeline.Entry, error) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if t.ended {
		return nil, errors.New("it was committed or rolled back before")
	}
	e := &stored{id, map[string]output{}}
	for _, name := range outputs {
		o, err := survey(filepath.Join(t.dir, name), true)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("it did not make %s", name), t.end(true))
		}
		if err != nil {
			return nil, errors.Join(err, t.end(true))
		}
		e.outputs[name] = o
	}
	t.store.entries[t.fp] = e
	t.store.open++
	return &entry{stored: e, store: t.store}, t.end(false)
}

func (t *tx) Rollback() error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if t.ended {
		return nil
	}
	return t.end(true)
}

func (t *tx) Abandon() error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if t.ended {
		return nil
	}
	return t.end(false)
}

func (t *tx) end(remove bool) error {
	t.ended = true
	close(t.store.building[t.fp])
	delete(t.store.building, t.fp)
	if !remove {
		return nil
	}
	return os.RemoveAll(t.dir)
}

// Rot changes a byte of the file at path and puts the old time back, as a failing disk does: only Verify can see it.
func Rot(tb testing.TB, path string) {
	tb.Helper()
	alter(tb, path, true, func(data []byte) []byte {
		data[0] ^= 1
		return data
	})
}

// Truncate cuts the last byte of the file at path: Get can see it.
func Truncate(tb testing.TB, path string) {
	tb.Helper()
	alter(tb, path, false, func(data []byte) []byte { return data[:len(data)-1] })
}

func alter(tb testing.TB, path string, secretly bool, change func([]byte) []byte) {
	tb.Helper()
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if len(data) == 0 {
		tb.Fatalf("%s is empty: there is nothing to damage", path)
	}
	err = errors.Join(
		os.Chmod(path, 0o600), // a store may keep its files read-only
		os.WriteFile(path, change(data), 0o600),
		os.Chmod(path, info.Mode()))
	if secretly {
		err = errors.Join(err, os.Chtimes(path, time.Time{}, info.ModTime()))
	}
	if err != nil {
		tb.Fatal(err)
	}
}
