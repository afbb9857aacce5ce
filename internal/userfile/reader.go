// Package userfile is about the files that a user names: each is read once and with a bound, and an error says whether
// the name or the machine is at fault, and what to do.
package userfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/dalirun/dalirun/internal/bounded"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// Stdin names standard input where a file is asked for.
	Stdin = "-"
	// stdinShown is what people read of it.
	stdinShown = "- (standard input)"
	// readWithin is how long a pipe may take to bring its file: what fills it may be a download.
	readWithin = 5 * time.Minute
)

// ErrTooLong is the cause of a file with more bytes than are read.
var ErrTooLong = errors.New("it has more bytes than are read")

// Reader reads files, each once: a pipe has its bytes once, and so has standard input. It is not safe for concurrent
// use, and the files that it returns are.
type Reader struct {
	Stdin io.Reader // nil where no file can be named [Stdin]

	stdinTaken bool
}

// File is one that a user named, to be read once.
type File struct {
	name string
	open func() (io.ReadCloser, error)
}

// File returns the file of a name, which nothing is read of yet. Standard input is whose who asks for [Stdin] first:
// where files are read at the same time, they are asked for one after the other.
func (r *Reader) File(name string) File {
	if name != Stdin {
		return File{name, func() (io.ReadCloser, error) { return openFile(name) }}
	}
	if r.stdinTaken {
		return File{name, func() (io.ReadCloser, error) {
			return nil, pipeline.Usagef("name - once; a second file comes by its name or through <(...)",
				"it was read already, and can be read once")
		}}
	}
	r.stdinTaken = true
	return File{name, r.openStdin}
}

// Read is [File.Read] of the file of a name.
func (r *Reader) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	return r.File(name).Read(ctx, limit)
}

// Read returns what is in a file, in a pipe or, for [Stdin], on standard input. Of more than limit bytes it reads no
// more, and returns [ErrTooLong]. Opening a pipe waits for who writes it, and reading may wait at any place: neither
// outlives ctx, nor five minutes.
func (f File) Read(ctx context.Context, limit int64) ([]byte, error) {
	slow := pipeline.Usagef("let what fills the pipe close it, as `<(...)` and `|` do, or name a file",
		"it did not come to its end within %s", readWithin)
	limited, cancel := context.WithTimeoutCause(ctx, readWithin, slow)
	defer cancel()
	// Nothing ends an open of a named pipe.
	return bounded.Call(limited, func() ([]byte, error) { return readAll(f.open, limit) })
}

func (r *Reader) openStdin() (io.ReadCloser, error) {
	if f, ok := r.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil, pipeline.Usagef("send the bytes through a pipe, or as in `dalirun classify - < cat.jpg`",
			"it is a terminal")
	}
	return io.NopCloser(r.Stdin), nil
}

// openFile opens what has bytes to give. A device may have no end, and to open it may do something.
func openFile(name string) (io.ReadCloser, error) {
	const readable = "name a file, or a pipe as in <(...); - is standard input"
	about, err := os.Stat(name)
	if err != nil {
		return nil, ReadFault(err, missingHint(name))
	}
	switch mode := about.Mode(); {
	case mode.IsDir():
		return nil, pipeline.Usagef(directoryHint(name), "it is a directory")
	case mode.IsRegular(), mode&fs.ModeNamedPipe != 0:
		f, err := os.Open(name)
		if err != nil {
			return nil, ReadFault(err, missingHint(name))
		}
		return f, nil
	case mode&fs.ModeSocket != 0:
		return nil, pipeline.Usagef(readable, "it is a socket")
	default:
		return nil, pipeline.Usagef(readable, "it is a device")
	}
}

func readAll(open func() (io.ReadCloser, error), limit int64) ([]byte, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	var data bytes.Buffer
	n, err := data.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, withoutName(err)
	}
	if n > limit {
		return nil, ErrTooLong
	}
	return data.Bytes(), nil
}

// Shown is the name of a file for people.
func Shown(name string) string {
	if name == Stdin {
		return stdinShown
	}
	return printable.Name(name)
}
