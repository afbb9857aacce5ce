package ui

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dalirun/dalirun/internal/runlog"
	"github.com/dalirun/dalirun/pipeline"
)

// LogSink keeps the events of a run in a folder: all in events.jsonl, and the output of each step in STEP.log, each
// line as [runlog.Line] has it. Each is as large as [runlog.File] lets it become. Files and the folder, which only the
// user can read, are made when there is something to write.
type LogSink struct {
	dir string

	mu     sync.Mutex
	files  map[string]*runlog.File // by name; nil for one that could not be made or written
	err    error                   // the first one
	closed bool
}

// NewLogSink returns a LogSink that writes into dir.
func NewLogSink(dir string) *LogSink { return &LogSink{dir: dir, files: map[string]*runlog.File{}} }

// Emit writes e. An error of writing stops that file and nothing else; Close returns it.
func (l *LogSink) Emit(e pipeline.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.write("events.jsonl", line(e))
	if x, ok := e.Payload.(pipeline.Line); ok && named(e.Step) {
		l.write(logName(e.Step), runlog.Line(e.Time, x.Text))
	}
}

// LogPath returns the path of the log of a step, or "" if nothing is in it.
func (l *LogSink) LogPath(step pipeline.ID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files[logName(step)] != nil {
		return runlog.Path(l.dir, string(step))
	}
	return ""
}

func logName(step pipeline.ID) string { return runlog.Path("", string(step)) }

// Close closes the files and returns the first error of writing. Events after it are dropped. LogPath still answers.
func (l *LogSink) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for _, f := range l.files {
		if f != nil {
			l.note(f.Close())
		}
	}
	if l.err != nil {
		return fmt.Errorf("the logs of this run are not complete: %w", l.err)
	}
	return nil
}

// named says whether a step's ID can be a file name.
func named(id pipeline.ID) bool {
	return id != "" && !strings.ContainsAny(string(id), `/\`) && filepath.IsLocal(string(id)+".log")
}

func (l *LogSink) write(name string, b []byte) {
	f, known := l.files[name]
	if !known {
		f = l.open(name)
		l.files[name] = f
	}
	if f == nil {
		return
	}
	if _, err := f.Write(b); err != nil {
		l.note(errors.Join(err, f.Close()))
		l.files[name] = nil
	}
}

func (l *LogSink) open(name string) *runlog.File {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		l.note(err)
		return nil
	}
	f, err := runlog.Open(filepath.Join(l.dir, name))
	if err != nil {
		l.note(err)
		return nil
	}
	return f
}

func (l *LogSink) note(err error) {
	if l.err == nil {
		l.err = err
	}
}
