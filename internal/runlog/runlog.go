// Package runlog decides how the logs in the folder of a run are written, how large they become, and how they are read.
package runlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/printable"
)

const (
	// MaxSize is how large a file of logs becomes, in bytes, before it takes the place of an older one. With that one a
	// log has twice as much at most. Of what dalirun runs, nothing but a server that prints without end writes more.
	MaxSize = 16 << 20
	// stamp is RFC 3339 with milliseconds.
	stamp = "2006-01-02T15:04:05.000Z07:00"
)

// Path returns the path of the log of a step in the folder of a run.
func Path(dir, step string) string { return filepath.Join(dir, step+".log") }

// Line returns a line of a log: its time, and the text without what a terminal obeys, since logs are read with cat.
func Line(at time.Time, text string) []byte {
	return []byte(at.Format(stamp) + " " + printable.Line(text) + "\n")
}

// File is a log that is being written. Beyond [MaxSize] what it has goes to a second file, NAME.1.EXT, and what was
// there is gone. It must not be used concurrently.
type File struct {
	path string
	max  int64
	file *os.File
	size int64
}

// Open makes a log, which only this user can read, or continues it. The folder must exist.
func Open(path string) (*File, error) {
	f := &File{path: path, max: MaxSize}
	return f, f.open()
}

func (f *File) open() (err error) {
	f.file, err = os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.file.Stat()
	if err != nil {
		return errors.Join(err, f.file.Close())
	}
	f.size = info.Size()
	return nil
}

// Write appends whole lines. A full log that cannot take the place of the older one, perhaps for a moment, goes on and
// tries it again with each line, until it has twice its size.
func (f *File) Write(text []byte) (int, error) {
	if size := f.size + int64(len(text)); f.size > 0 && size > f.max {
		if err := f.rotate(); err != nil && size > 2*f.max {
			return 0, err
		}
	}
	n, err := f.file.Write(text)
	f.size += int64(n)
	return n, err
}

// rotate puts the log in the place of the older one and begins a new one. Until that is open the log stays open, to go
// on with. One that is in that place already had no new one when this was tried before.
func (f *File) rotate() error {
	if err := os.Rename(f.path, older(f.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	full, size := f.file, f.size
	if err := f.open(); err != nil {
		f.file, f.size = full, size
		return err
	}
	return full.Close()
}

// Close closes the log.
func (f *File) Close() error { return f.file.Close() }

// older is the path of what was written before the file at path.
func older(path string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + ".1" + ext
}

// Replace puts text in the place of a log, whose folder must exist. A reader, and a crash at any moment, finds the old
// log or the new one.
func Replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // for this user alone
	if err != nil {
		return err
	}
	if err := fsync.Replace(path, f, text); err != nil {
		return err
	}
	if err := os.Remove(older(path)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Read hands each line of a log to each, the oldest first, with its time. An error of each ends it and is returned. A
// log that is being written is read as it was when Read began, so both files are open before either is read.
func Read(path string, each func(at time.Time, text string) error) error {
	var files []*os.File
	for _, name := range []string{path, older(path)} {
		f, err := openRegular(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		files = append(files, f)
	}
	if len(files) > 1 && isSame(files[0], files[1]) { // it took the place of the older one between the two
		files = files[:1]
	}
	for _, f := range slices.Backward(files) {
		if err := readFile(f, each); err != nil {
			return err
		}
	}
	return nil
}

func isSame(a, b *os.File) bool {
	aboutA, errA := a.Stat()
	aboutB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(aboutA, aboutB)
}

func readFile(f *os.File, each func(at time.Time, text string) error) error {
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			at, text := parse(strings.TrimSuffix(line, "\n"))
			if err := each(at, text); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log %s: %w", f.Name(), err)
		}
	}
}

// openRegular opens a file, and not a pipe, whose opening may never end.
func openRegular(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// parse returns time and text of a line. The time of a line that begins with none, as one that was cut, is zero.
func parse(line string) (time.Time, string) {
	first, text, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, first)
	if err != nil {
		return time.Time{}, line
	}
	return at, text
}

// Last returns the folder, below that of all runs, of the run whose log of a step was written last, and when that was.
// The folder is empty if no run has such a log.
func Last(runs, step string) (dir string, at time.Time, err error) {
	entries, err := os.ReadDir(runs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", at, nil
	}
	if err != nil {
		return "", at, fmt.Errorf("look for logs: %w", err)
	}
	for _, run := range entries {
		info, err := os.Lstat(Path(filepath.Join(runs, run.Name()), step))
		if err == nil && info.Mode().IsRegular() && !info.ModTime().Before(at) { // of equal times the later run
			dir, at = filepath.Join(runs, run.Name()), info.ModTime()
		}
	}
	return dir, at, nil
}
