package record

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/userfile"
)

const (
	// totalLimit bounds what is read of a record, in bytes, but for the model. A file of a few kilobytes can say that it
	// holds terabytes.
	totalLimit = 256 << 20
	// modelLimit bounds the model, in bytes: an ONNX file is one protobuf message, which has less than 2 GiB
	// (https://protobuf.dev/programming-guides/proto-limits/).
	modelLimit = 2 << 30
	// windowLimit bounds the memory of the decompression. The writer's own window has 8 MiB.
	windowLimit = 64 << 20
)

// Record is a record that was read.
type Record struct {
	Header
	// Path is that of the file or folder.
	Path string `json:"-"`
	// Cut says why the record ends early: its run was killed, or it was not copied whole. It is nil for one that is
	// whole, and for the folder of a run.
	Cut error `json:"-"`
	// Running says that the run is at work: it has the lock of its record, or of its folder.
	Running bool `json:"-"`

	files map[string][]byte
}

// ErrNoRecord says that a file is no record.
var ErrNoRecord = errors.New("it is no record of dalirun")

// Open reads a record, or the folder of a run, which has the events and logs alone.
func Open(name string) (*Record, error) {
	f, err := userfile.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	about, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if about.IsDir() {
		return openFolder(name)
	}
	r, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.Path, r.Running = name, isHeld(name)
	return r, nil
}

// read reads what there is of a record.
func read(from io.Reader) (*Record, error) {
	zip, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowLimit))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	r := &Record{files: map[string][]byte{}}
	var journal bytes.Buffer
	r.Cut, err = readMembers(tar.NewReader(zip), func(name string, content []byte) {
		if path.Dir(name) == journalFolder {
			journal.Write(content)
			return
		}
		r.files[name] = content
	})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(r.files[HeaderFile], &r.Header); err != nil {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrNoRecord, HeaderFile)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("it was written by dalirun %s in form %d, and this one reads form %d", r.Program,
			r.Version, Version)
	}
	if r.Cut == nil && !r.Complete {
		r.Cut = errors.New("the run did not end in order")
	}
	return r, r.replay(&journal)
}

// readMembers hands each the members but for the model, for which there is [ExtractModel]. cut says why they end early;
// it is nil if they do not.
func readMembers(a *tar.Reader, each func(name string, content []byte)) (cut, err error) {
	for total := int64(0); ; {
		head, err := a.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // neither is wrong
		}
		if err != nil {
			return err, nil
		}
		name, most := path.Clean(head.Name), int64(totalLimit)
		if name == ModelFile {
			most = modelLimit
		} else {
			total += head.Size
		}
		if head.Size > most || total > totalLimit {
			return nil, fmt.Errorf("%w: it says that %s has %d bytes", ErrNoRecord, printable.Name(name), head.Size)
		}
		if name == ModelFile || head.Typeflag != tar.TypeReg {
			continue
		}
		content := make([]byte, head.Size)
		if _, err := io.ReadFull(a, content); err != nil {
			return err, nil
		}
		each(name, content)
	}
}

// replay puts the events of a run that did not end where those of one that did are. A line that was cut is the last.
func (r *Record) replay(journal io.Reader) error {
	lines := bufio.NewReader(journal)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var j journaled
		if json.Unmarshal(line, &j) != nil {
			return nil //nolint:nilerr // it was cut, and is the last
		}
		name, content := EventsFile, string(j.Event)
		if j.Event == nil {
			name, content = LogFile(string(j.Step)), j.Line
		}
		r.files[name] = append(r.files[name], content+"\n"...)
	}
}

// openFolder reads the folder of a run.
func openFolder(name string) (*Record, error) {
	r := &Record{Path: name, files: map[string][]byte{}, Header: Header{Version: Version, Run: filepath.Base(name)}}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		member := ""
		switch base := e.Name(); {
		case base == EventsFile, base == FailureFile:
			member = base
		case filepath.Ext(base) == ".log":
			member = path.Join(logsFolder, base)
		default:
			continue
		}
		content, err := readTail(filepath.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		r.files[member] = content
	}
	if r.files[EventsFile] == nil {
		return nil, fmt.Errorf("%s: it is no folder of a run: it has no %s", name, EventsFile)
	}
	r.Complete = strings.Contains(string(r.files[EventsFile]), `"kind":"run.ended"`)
	r.Running = isHeld(filepath.Join(name, "lock"))
	return r, nil
}

// readTail reads the end of a file, as much as a record has of a log.
func readTail(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	about, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const most = headLimit + tailLimit
	from := max(0, about.Size()-most)
	content, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if _, whole, ok := bytes.Cut(content, []byte("\n")); ok && from > 0 {
		content = whole
	}
	return content, err
}

// File returns a member. It is [fs.ErrNotExist] if the record has none of that name.
func (r *Record) File(name string) ([]byte, error) {
	content, ok := r.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return content, nil
}

// Decode reads a member of JSON into value.
func (r *Record) Decode(name string, value any) error {
	content, err := r.File(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, value); err != nil {
		return fmt.Errorf("%s of the record: %w", name, err)
	}
	return nil
}

// Files returns the names of all members, in the order of a record. Of a model it does not know.
func (r *Record) Files() []string {
	names := make([]string, 0, len(r.files))
	for name := range r.files {
		names = append(names, name)
	}
	return order(names)
}

// ExtractModel writes the model of a record to a new file. It is [fs.ErrNotExist] if the record has none.
func ExtractModel(name, to string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	zip, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowLimit))
	if err != nil {
		return err
	}
	defer zip.Close()
	for a := tar.NewReader(zip); ; {
		head, err := a.Next()
		if errors.Is(err, io.EOF) {
			return &fs.PathError{Op: "read", Path: ModelFile, Err: fs.ErrNotExist}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if path.Clean(head.Name) != ModelFile || head.Typeflag != tar.TypeReg {
			continue
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, private)
		if err != nil {
			return err
		}
		_, err = io.CopyN(out, a, head.Size)
		return errors.Join(err, out.Close())
	}
}
