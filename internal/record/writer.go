package record

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/runlog"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// flushEvery is how long an event may wait before it is in the file: what a SIGKILL takes along.
	flushEvery = time.Second / 2
	// journalLimit is how many bytes of events are appended before the whole record is written anew without them, so
	// that the file of a server that prints for a month does not grow.
	journalLimit = 16 << 20
	// memberLimit bounds a member other than the model, in bytes: the largest picture that dalirun takes has 64 MiB.
	memberLimit = 64 << 20
	private     = 0o600
)

// Options say what a record is of.
type Options struct {
	Program  string // version
	Command  string
	Started  time.Time
	Redactor *bundle.Redactor // which nobody else uses meanwhile
}

// Writer writes the record of a run as it goes. Its methods may be called concurrently.
//
// Members and events are in the file half a second after they came. An error of writing stops that until the record is
// written anew; if that fails at the end, Close says so: a run does not end because its record cannot be kept.
type Writer struct {
	name    string // as the user named it
	path    string // what that is, links followed
	options Options
	done    chan struct{}
	flusher sync.WaitGroup

	mu      sync.Mutex // of what is below, for as long as a copy takes
	pending []entry
	closed  bool

	writing sync.Mutex // of what is below, while the file is written
	header  Header
	file    *os.File
	lock    *flock.Flock // of the file
	zip     *zstd.Encoder
	members map[string][]byte
	files   map[string]string // members that are read from a file when the record is complete
	events  text
	logs    map[string]*text
	journal int // bytes of events since the record was last written whole
	segment int
	stopped error // why nothing is appended any more: what was may end within a member
	err     error // what the record will lack
}

// entry is what waits to be written: a member, or an event.
type entry struct {
	name    string // of a member
	text    bool   // secrets are to be taken out
	content []byte

	step pipeline.ID // of a line of a log
	at   time.Time
	line bool
}

// Create makes a record of a name. What is there is replaced if it is a record or empty; else it is a
// [userfile.OtherError].
func Create(name string, o Options) (*Writer, error) {
	path, err := userfile.Replaceable(name, "record of dalirun", func(r io.Reader) bool {
		_, err := read(r)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	// Concurrency 1: a goroutine for each core would take them from the run.
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	lock, err := hold(path)
	if err != nil {
		return nil, err
	}
	sweep(path)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, private)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	w := &Writer{
		name: name, path: path, options: o, done: make(chan struct{}), file: file, lock: lock, zip: zip,
		members: map[string][]byte{}, files: map[string]string{}, logs: map[string]*text{},
		header: Header{
			Version: Version, Program: o.Program, Command: o.Command, Started: o.Started.UTC(),
			OS: runtime.GOOS, Arch: runtime.GOARCH,
		},
	}
	if w.append(HeaderFile, w.headerJSON()); w.stopped != nil {
		return nil, errors.Join(w.stopped, file.Close(), os.Remove(path), lock.Unlock())
	}
	w.flusher.Go(w.flushNow)
	return w, nil
}

func (w *Writer) flushNow() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-tick.C:
			w.flush()
		}
	}
}

// Path is that of the record, as it was named.
func (w *Writer) Path() string { return w.name }

// SetRun names the run, once it has an ID.
func (w *Writer) SetRun(id string) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.header.Run = id
	w.append(HeaderFile, w.headerJSON())
}

// AddText keeps a text, out of which secrets are taken. What had the name is replaced.
func (w *Writer) AddText(name string, content []byte) {
	w.put(entry{name: name, text: true, content: content})
}

// AddJSON keeps a value as JSON, out of which secrets are taken.
func (w *Writer) AddJSON(name string, value any) {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		w.note(fmt.Errorf("%s has no JSON form: %w", name, err))
		return
	}
	w.AddText(name, append(content, '\n'))
}

// AddBytes keeps bytes as they are: a picture, tensors.
func (w *Writer) AddBytes(name string, content []byte) { w.put(entry{name: name, content: content}) }

// AddFile keeps a file as it is, which is read when the record is complete.
func (w *Writer) AddFile(name, file string) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.files[name] = file
}

// Emit keeps an event: lines in the log of their step, all others in one list.
func (w *Writer) Emit(e pipeline.Event) {
	if line, ok := e.Payload.(pipeline.Line); ok {
		w.put(entry{line: true, step: e.Step, at: e.Time, content: []byte(line.Text)})
		return
	}
	content, err := json.Marshal(e)
	if err != nil { // a result that JSON cannot hold, such as NaN
		e.Payload = pipeline.Warning{Text: "an event has no JSON form: " + err.Error()}
		content, _ = json.Marshal(e) // the rest is text and a time of this century
	}
	w.put(entry{content: printable.JSON(content)})
}

func (w *Writer) put(e entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.pending = append(w.pending, e)
	}
}

func (w *Writer) note(err error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.fail(err)
}

func (w *Writer) fail(err error) {
	if w.err == nil && err != nil {
		w.err = err
	}
}

// flush writes what waits.
func (w *Writer) flush() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.write()
}

// write is flush of who has the lock: what came first is written first.
func (w *Writer) write() {
	w.mu.Lock()
	pending := w.pending
	w.pending = nil
	w.mu.Unlock()
	journal := w.take(pending)
	if len(journal) == 0 || w.stopped != nil {
		return
	}
	w.segment++
	w.journal += len(journal)
	w.append(path.Join(journalFolder, fmt.Sprintf("%06d.jsonl", w.segment)), journal)
	if w.journal > journalLimit {
		w.fail(w.rewrite())
	}
}

// journaled is a line of the journal: an event, or a line of a log.
type journaled struct {
	Event json.RawMessage `json:"event,omitempty"`
	Step  pipeline.ID     `json:"step,omitempty"`
	Line  string          `json:"line,omitempty"` // with its time, as in the log
}

// take keeps what came, and returns the lines of the journal for it. Members are appended at once.
func (w *Writer) take(pending []entry) []byte {
	var journal bytes.Buffer
	lines := json.NewEncoder(&journal)
	lines.SetEscapeHTML(false)
	for _, e := range pending {
		if e.name != "" {
			w.member(e)
			continue
		}
		content := w.options.Redactor.Text(string(e.content))
		if e.line {
			line := runlog.Line(e.at, content)
			log := w.logs[string(e.step)]
			if log == nil {
				log = &text{}
				w.logs[string(e.step)] = log
			}
			log.add(line)
			w.fail(lines.Encode(journaled{Step: e.step, Line: string(bytes.TrimSuffix(line, []byte("\n")))}))
			continue
		}
		w.events.add([]byte(content + "\n"))
		w.fail(lines.Encode(journaled{Event: json.RawMessage(content)}))
	}
	return journal.Bytes()
}

// member keeps a member and appends it.
func (w *Writer) member(e entry) {
	if e.text {
		e.content = []byte(w.options.Redactor.Text(string(e.content)))
	}
	if len(e.content) > memberLimit {
		w.header.LeftOut = append(w.header.LeftOut, fmt.Sprintf("%s: it has %d bytes", e.name, len(e.content)))
		return
	}
	w.members[e.name] = e.content
	w.append(e.name, e.content)
}

// append adds a member to the file, as a frame of its own: whatever comes later, it can be read. The first error ends
// that until the record is written anew.
func (w *Writer) append(name string, content []byte) {
	if w.stopped != nil {
		return
	}
	var frame bytes.Buffer
	w.zip.Reset(&frame)
	err := addMember(tar.NewWriter(w.zip), name, w.options.Started, int64(len(content)), bytes.NewReader(content))
	if err = errors.Join(err, w.zip.Close()); err == nil {
		_, err = w.file.Write(frame.Bytes())
	}
	w.stopped = err
}

// addMember adds a member to an archive that is not ended. It has nobody's name, and the time at which the run began:
// the same run makes the same record.
func addMember(a *tar.Writer, name string, at time.Time, size int64, content io.Reader) error {
	err := a.WriteHeader(&tar.Header{Name: name, Mode: private, Size: size, ModTime: at.UTC().Truncate(time.Second)})
	if err == nil {
		_, err = io.CopyN(a, content, size)
	}
	return errors.Join(err, a.Flush())
}

// Close writes the record whole, without its journal, in the place of what was written as the run went.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.mu.Unlock()
	close(w.done)
	w.flusher.Wait()
	w.flush()
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.writing.Lock()
	defer w.writing.Unlock()
	w.header.Complete = true
	if err := w.rewrite(); err != nil {
		w.append(HeaderFile, w.headerJSON()) // what was written as the run went has all, and says now that it ended
		w.err = errors.Join(w.err, err, w.stopped)
	}
	err := errors.Join(w.err, w.file.Close(), w.lock.Unlock())
	if err != nil {
		return fmt.Errorf("the record %s is not complete: %w", w.name, err)
	}
	return nil
}

func (w *Writer) headerJSON() []byte {
	content, err := json.MarshalIndent(w.header, "", "  ")
	w.fail(err)
	return append(content, '\n')
}

// rewrite writes all that is known of the run, and goes on behind it.
func (w *Writer) rewrite() (err error) {
	f, err := os.CreateTemp(filepath.Dir(w.path), filepath.Base(w.path)+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w.zip.Reset(f)
	a := tar.NewWriter(w.zip)
	all := w.whole()
	names := order(slices.Collect(maps.Keys(all)))
	for _, name := range names {
		err := addMember(a, name, w.options.Started, int64(len(all[name])), bytes.NewReader(all[name]))
		if err = errors.Join(err, w.zip.Flush()); err != nil { // so that a part of the file has whole members
			return err
		}
	}
	if w.header.Complete {
		for _, name := range slices.Sorted(maps.Keys(w.files)) {
			if err := w.addFile(a, name); err != nil {
				return err
			}
		}
		if err := a.Close(); err != nil {
			return err
		}
	}
	if err := errors.Join(w.zip.Close(), f.Sync()); err != nil {
		return err
	}
	lock, err := hold(f.Name())
	if err != nil {
		return err
	}
	if err := fsync.Rename(f.Name(), w.path); err != nil {
		return errors.Join(err, lock.Unlock())
	}
	_, _ = w.file.Close(), w.lock.Unlock() // the other file has all that this one had
	w.file, w.lock, w.journal, w.stopped = f, lock, 0, nil
	return nil
}

func (w *Writer) addFile(a *tar.Writer, name string) error {
	f, err := os.Open(w.files[name])
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	about, err := f.Stat()
	if err != nil {
		return err
	}
	return addMember(a, name, w.options.Started, about.Size(), f)
}

// whole returns all members but those of files.
func (w *Writer) whole() map[string][]byte {
	all := maps.Clone(w.members)
	all[EventsFile] = w.events.bytes(func(left int) string {
		note, _ := json.Marshal(map[string]int{"left_out": left})
		return string(note)
	})
	for step, log := range w.logs {
		all[LogFile(step)] = log.bytes(func(left int) string { return fmt.Sprintf("[%d lines are left out here]", left) })
	}
	all[HeaderFile] = w.headerJSON()
	return all
}

// Snapshot returns what the record has so far, as if it were read.
func (w *Writer) Snapshot() *Record {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.write()
	header := w.header
	header.Complete = true // whoever asks knows how the run ended
	return &Record{Header: header, Path: w.name, files: w.whole()}
}
