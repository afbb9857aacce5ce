package owner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// RepositoryPath returns the folder of a workspace's served repository: the model repository that its server serves.
// The folder and all in it are dalirun's.
func RepositoryPath(workspace string) string { return filepath.Join(workspace, "model_repository") }

// TakeRepository makes the served repository of a workspace equal to a model repository in the cache. Its files are
// hard links to the cache's, and copies where the file system has no such links: nothing that becomes of the cache
// takes them away. The cache's files must not be written to through it.
//
// The folder itself stays the one that it is, since a container may have it mounted. A reader finds each file whole,
// the old one or the new; a crash half-way leaves some of both, and the next call mends that.
func TakeRepository(ctx context.Context, workspace, from string) error {
	if err := Mirror(ctx, from, RepositoryPath(workspace)); err != nil {
		return fmt.Errorf("take %s into the served repository: %w", from, err)
	}
	return fsync.Dir(workspace)
}

// Mirror makes the folder to equal to from, as [TakeRepository] does. What is in the way goes, such as the link into
// the cache that older versions made; it follows no link.
func Mirror(ctx context.Context, from, to string) error {
	if about, err := os.Lstat(to); err == nil && !about.IsDir() {
		if err := os.Remove(to); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // the server's user reads it
		return err
	}
	wanted, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range wanted {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		mirror := mirrorFile
		if entry.IsDir() {
			mirror = Mirror
		}
		if err := mirror(ctx, filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	if err := removeOthers(to, wanted); err != nil {
		return err
	}
	return fsync.Dir(to)
}

// removeOthers removes what a folder has besides wanted.
func removeOthers(folder string, wanted []fs.DirEntry) error {
	present, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range present {
		isIt := func(w fs.DirEntry) bool { return w.Name() == entry.Name() }
		if slices.ContainsFunc(wanted, isIt) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// mirrorFile makes path the file that source is, or a copy of it. A copy has the time of source, by which the next call
// knows it.
func mirrorFile(ctx context.Context, source, path string) error {
	want, err := os.Stat(source)
	if err != nil {
		return err
	}
	present, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case present.IsDir():
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	case present.Mode().IsRegular() && present.Size() == want.Size() && present.ModTime().Equal(want.ModTime()):
		return nil // the same file has both, and so has a copy
	}
	next := path + ".new"
	if err := os.RemoveAll(next); err != nil { // of a call that was killed
		return err
	}
	if err := os.Link(source, next); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := copyAs(ctx, source, next, want.ModTime()); err != nil {
			return err
		}
	}
	return os.Rename(next, path) // the caller makes the names durable
}

// copyAs copies a file and gives the copy a time.
func copyAs(ctx context.Context, from, to string, modified time.Time) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // the server's user reads it
	if err != nil {
		return err
	}
	_, err = io.Copy(out, bounded.Reader(ctx, in))
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close(), os.Chtimes(to, time.Time{}, modified))
}

// Built is what `dalirun setup` last made in a workspace, or `dalirun serve`, which does what setup does.
type Built struct {
	Run        string          `json:"run"`
	Time       time.Time       `json:"time"`
	Repository string          `json:"repository"`          // the model repository in the cache
	Arguments  []string        `json:"arguments,omitempty"` // that its tritonserver is to have, besides the usual ones
	Target     json.RawMessage `json:"target"`              // that the run had, see package target
	Memory     int64           `json:"memory"`              // limit of each container of the run, in bytes
	Command    []string        `json:"command"`             // arguments of dalirun that serve it, from any folder
	MaxBatch   int             `json:"max_batch,omitempty"` // the most pictures of a request
	Image      string          `json:"image,omitempty"`     // that its server is to have, as in a ServerFile
	Ensemble   string          `json:"ensemble,omitempty"`  // that clients of its server ask
	Served
}

// ServesAnother reports whether a server may serve another model repository than the one that was built last, or
// whether that needs another server. It is false if nothing is known of the server.
func (b Built) ServesAnother(s ServerFile) bool {
	return b.Repository != "" && s.Repository != "" &&
		(len(s.Reloading) > 0 || b.Repository != s.Repository || b.NeedsRestart(s))
}

// NeedsRestart reports whether what was built last needs another server; [Built.ServerDifferences] says why.
func (b Built) NeedsRestart(s ServerFile) bool { return len(b.ServerDifferences(s)) > 0 }

// ServerDifferences are those between a server and what was built last that no reload changes, since it only puts other
// models into the same tritonserver.
func (b Built) ServerDifferences(s ServerFile) []Difference {
	return KnownDifferences([]Difference{
		{"model", s.Ensemble(), b.Ensemble},
		{"lane", s.Lane, b.Lane},
		{"images", s.Source, b.Source},
		{"release", s.Release, b.Release},
		{"server image", pipeline.Short(s.Image), pipeline.Short(b.Image)},
		{"server arguments", argumentsText(s.Arguments), argumentsText(b.Arguments)},
	})
}

// Difference is a fact in which what was built is not what is served.
type Difference struct {
	Fact   string `json:"fact"`
	Served string `json:"served"`
	Built  string `json:"built"`
}

// String is "lane gpu (served: cpu)".
func (d Difference) String() string { return d.Fact + " " + d.Built + " (served: " + d.Served + ")" }

// KnownDifferences returns those of all whose sides differ. An empty side is not known, as where an older dalirun did
// not note it, and is no difference.
func KnownDifferences(all []Difference) []Difference {
	return slices.DeleteFunc(all, func(d Difference) bool {
		return d.Served == d.Built || d.Served == "" || d.Built == ""
	})
}

// argumentsText is never empty: that a server has no arguments is known.
func argumentsText(arguments []string) string {
	if len(arguments) == 0 {
		return "none"
	}
	return shell.Line(arguments...)
}

// ErrNothingBuilt says that nothing was built in a workspace.
var ErrNothingBuilt = errors.New("nothing was built in this workspace")

func builtPath(workspace string) string { return filepath.Join(workspace, "built.json") }

// WriteBuilt replaces what is recorded of a workspace. A reader, and a crash at any moment, finds the old record or the
// new.
func WriteBuilt(workspace string, b Built) error {
	if err := replaceFile(b, filepath.Join(RunDir(workspace, b.Run), "built.json"), builtPath(workspace)); err != nil {
		return fmt.Errorf("record what was built: %w", err)
	}
	return nil
}

// ReadBuilt returns what was last built in a workspace, or [ErrNothingBuilt].
func ReadBuilt(workspace string) (Built, error) {
	data, err := os.ReadFile(builtPath(workspace))
	if errors.Is(err, fs.ErrNotExist) {
		return Built{}, ErrNothingBuilt
	}
	if err != nil {
		return Built{}, fmt.Errorf("read what was last built: %w", err)
	}
	var b Built
	if err = json.Unmarshal(data, &b); err == nil && (b.Run == "" || b.Repository == "") {
		err = errors.New("it names no run or no repository")
	}
	if err != nil {
		return Built{}, pipeline.Faultf(pipeline.Environment, "`dalirun setup` writes it anew, with the flags that you use",
			"%s is damaged: %w", builtPath(workspace), err)
	}
	return b, nil
}

// NeedsRepository reports whether a workspace still needs a model repository in the cache: holds says whether a path
// leads into it. A workspace needs the one that was built last, which the next server is to serve; what is served
// already is the workspace's own. If the record cannot be read, it may need any.
func NeedsRepository(workspace string, holds func(path string) bool) bool {
	built, err := ReadBuilt(workspace)
	if err != nil {
		return !errors.Is(err, ErrNothingBuilt)
	}
	return holds(built.Repository)
}
