package pipeline

import (
	"context"
	"errors"
)

// Errors of a [Store].
var (
	// ErrMiss: nothing is stored under that fingerprint.
	ErrMiss = errors.New("not in the cache")
	// ErrDamaged: something is, but it is not what was committed.
	ErrDamaged = errors.New("cache entry is damaged")
)

// Store keeps what builders made. Several processes may use one store at a time.
type Store interface {
	// Get returns the entry of fp, or ErrMiss, or ErrDamaged where sizes or times are not those that were committed.
	// It hashes no contents, so it is quick. The caller closes the entry: until then its paths stay valid.
	Get(fp Fingerprint) (Entry, error)
	// Last returns the facts of the last result of a step in a workspace, or nil if there was none.
	Last(workspace string, id ID) (Facts, error)
	// Note records the facts for Last.
	Note(workspace string, id ID, facts Facts) error
	// Begin starts to build fp. One builder of a fingerprint is at work at a time, across processes: while another is,
	// Begin calls waiting once with who it is, and waits until ctx ends. Look with Get again before building.
	Begin(ctx context.Context, fp Fingerprint, waiting func(holder string)) (Tx, error)
	// Drop takes a damaged entry away. It leaves one that is whole, which another process may have put there meanwhile,
	// and the paths of who reads the damaged one.
	Drop(fp Fingerprint) error
}

// Entry is a committed result.
type Entry interface {
	// Values returns paths and content digests of the outputs.
	Values() Values
	// Verify hashes the contents and returns ErrDamaged if they are not what was committed.
	Verify() error
	Close() error
}

// Tx is a result in the making.
type Tx interface {
	// Dir is a fresh folder.
	Dir() string
	// Commit stores the named files and folders of Dir under the fingerprint: all or, whatever happens, nothing. It takes
	// the place of what was stored there. An error names the output that Dir lacks.
	Commit(id ID, facts Facts, outputs []string) (Entry, error)
	// Rollback removes Dir and lets the next builder go on. After Commit it does nothing.
	Rollback() error
	// Abandon lets the next builder go on too, but leaves Dir as it is for a person to look at, until the store is
	// next cleared of what dead builders left. After Commit it does nothing.
	Abandon() error
}
