package report

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// Files are the files that a report is written to; no name is no file.
type Files struct{ JUnit, HTML string }

// Make makes the files, so that one that cannot be written is told of before the run, and empties them: what an older
// run wrote is not taken for this one's. It refuses one that is both reports, or that the run reads: reads has those by
// the flags that name them.
func (f Files) Make(reads map[string]string) (err error) {
	taken := maps.Clone(reads)
	var files, made []string
	defer func() {
		for _, name := range made {
			if err != nil {
				err = errors.Join(err, os.Remove(name))
			}
		}
	}()
	for _, r := range []struct{ flag, name string }{{"--junit", f.JUnit}, {"--html", f.HTML}} {
		if r.name == "" {
			continue
		}
		_, missing := os.Stat(r.name)
		//nolint:gosec // as os.Create; a file that the run reads keeps what it holds
		opened, err := os.OpenFile(r.name, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return userfile.MakeFault("write the report", err)
		}
		if errors.Is(missing, fs.ErrNotExist) {
			made = append(made, r.name)
		}
		err = distinct(opened, r.flag, r.name, taken)
		if err = errors.Join(err, opened.Close()); err != nil {
			return err
		}
		taken[r.flag] = r.name
		files = append(files, r.name)
	}
	for _, name := range files {
		if err := writeFile(name, func(io.Writer) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Write writes a report to the files. Nothing is left of one that could not be written whole.
func (f Files) Write(r Report) error {
	return errors.Join(writeFile(f.JUnit, r.WriteJUnit), writeFile(f.HTML, r.WriteHTML))
}

// WriteBench writes what a server was measured at to the files, and err, if that ended with one. Nothing is left of one
// that could not be written whole.
func (f Files) WriteBench(r bench.Result, err error) error {
	return writeFile(f.HTML, func(w io.Writer) error { return WriteBenchHTML(w, r, err) })
}

// distinct refuses a report on what another flag names, whatever it is called there. Devices and pipes keep nothing, so
// both reports may go to one.
func distinct(report *os.File, flag, name string, others map[string]string) error {
	about, err := report.Stat()
	if err != nil || !about.Mode().IsRegular() {
		return err
	}
	for _, other := range slices.Sorted(maps.Keys(others)) {
		if there, err := os.Stat(others[other]); err == nil && os.SameFile(about, there) {
			return pipeline.Usagef("name another file with "+flag,
				"%s and %s are the same file: %s", other, flag, name)
		}
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return userfile.MakeFault("write the report", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return pipeline.Faultf(pipeline.Environment, "", "write the report %s: %w", name, errors.Join(err, remove(name)))
	}
	return nil
}

// remove removes a report that could not be written whole: a part of one looks like a report, and an empty file like
// that of a run that has not ended. A link stays, and so do devices, pipes, and what a name such
// as /dev/stdout stands for.
func remove(name string) error {
	about, err := os.Stat(name)
	if err != nil || !about.Mode().IsRegular() || strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/") {
		return nil //nolint:nilerr // there is nothing to remove
	}
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	return os.Remove(path)
}
