package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/dalirun/dalirun/pipeline"
)

// note is the content of a file of Last.
type note struct {
	Workspace string         `json:"workspace"`
	Facts     pipeline.Facts `json:"facts"`
}

// ref is the content of a file of Recall.
type ref struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Last implements [pipeline.Store]. A damaged note counts as absent, since it only gives the reason that a plan shows.
func (s *Store) Last(workspace string, id pipeline.ID) (pipeline.Facts, error) {
	if err := checkName("step", string(id)); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.notePath(workspace, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // the interface has it so: there was none
	}
	if err != nil {
		return nil, fmt.Errorf("read the facts of the last result: %w", err)
	}
	var n note
	if !decode(data, &n) || n.Workspace != workspace {
		return nil, nil //nolint:nilnil // see above
	}
	return n.Facts, nil
}

// Note implements [pipeline.Store]. It writes only facts that changed, so that a run that changes nothing waits for no
// disk.
func (s *Store) Note(workspace string, id pipeline.ID, facts pipeline.Facts) error {
	last, err := s.Last(workspace, id)
	if err != nil {
		return err
	}
	if last != nil && maps.Equal(last, facts) {
		return nil
	}
	if facts == nil {
		facts = pipeline.Facts{} // Last returns nil if there was no result
	}
	if err := s.writeJSON(s.notePath(workspace, id), note{workspace, facts}); err != nil {
		return fmt.Errorf("note the facts of %s: %w", id, err)
	}
	return nil
}

func (s *Store) notePath(workspace string, id pipeline.ID) string {
	return s.path("last", hashName(workspace), string(id)+".json")
}

// Remember keeps value under key until another value is remembered there.
func (s *Store) Remember(key, value string) error {
	if last, ok := s.recall(key); ok && last == value {
		return nil
	}
	if err := s.writeJSON(s.refPath(key), ref{key, value}); err != nil {
		return fmt.Errorf("remember %s: %w", key, err)
	}
	return nil
}

// Recall returns the value that was last remembered under key, here or else in the store below. A file that cannot be
// read counts as absent.
func (s *Store) Recall(key string) (string, bool) {
	value, ok := s.recall(key)
	if !ok && s.below != nil {
		return s.below.recall(key)
	}
	return value, ok
}

func (s *Store) recall(key string) (string, bool) {
	data, err := os.ReadFile(s.refPath(key))
	if err != nil {
		return "", false
	}
	var r ref
	if !decode(data, &r) || r.Key != key {
		return "", false
	}
	return r.Value, true
}

func (s *Store) refPath(key string) string { return s.path("refs", hashName(key)+".json") }

// decode reports whether data is v's JSON. Data that is not counts as absent, whatever is wrong with it.
func decode(data []byte, v any) bool { return json.Unmarshal(data, v) == nil }

func (s *Store) writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return s.write(path, data)
}
