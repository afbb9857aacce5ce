package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// stdinName names stdin where a file is asked for, and is what programs read of it.
	stdinName = "-"
	// stdinShown is what people read of it.
	stdinShown = "- (standard input)"
	// inputWithin is how long a pipe may take to bring its file: what fills it may be a download.
	inputWithin = 5 * time.Minute
)

// errTooLong is the cause of a file with more bytes than are read.
var errTooLong = errors.New("it has more bytes than are read")

// input reads files that a user names, each once: a pipe has its bytes once, and so has stdin.
type input struct {
	stdin io.Reader
	taken bool // stdin was read
}

// read returns what is in a file, in a pipe or, for "-", on stdin. Of more than limit bytes it reads no more, and returns errTooLong. Opening a
// pipe waits for who writes it, and reading may wait at any place: neither outlives ctx, nor inputWithin.
func (in *input) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	open := func() (io.ReadCloser, error) { return openFile(name) }
	if name == stdinName {
		if in.taken {
			return nil, usagef("name - once; a second file comes by its name or through <(...)", "it was read already, and can be read once")
		}
		in.taken = true
		open = in.openStdin
	}
	bounded, cancel := context.WithTimeoutCause(ctx, inputWithin, fmt.Errorf("it did not come to its end within %s", inputWithin))
	defer cancel()
	// Nothing ends an open of a named pipe.
	return until(bounded, func() ([]byte, error) { return readAll(open, limit) })
}

// until returns what do returns, or the cause of ctx's end, whichever comes first. What is still being done then goes on until the process ends.
func until[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (in *input) openStdin() (io.ReadCloser, error) {
	if f, ok := in.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil, usagef("send the bytes through a pipe, or as in `dalirun classify - < cat.jpg`", "it is a terminal")
	}
	return io.NopCloser(in.stdin), nil
}

// openFile opens what has bytes to give. A device may have no end, and to open it may do something.
func openFile(name string) (io.ReadCloser, error) {
	const readable = "name a file, or a pipe as in <(...); - is standard input"
	about, err := os.Stat(name)
	if err != nil {
		return nil, fileFault(err, missingHint(name))
	}
	switch mode := about.Mode(); {
	case mode.IsDir():
		hint := "name a file in it"
		if printable.Name(name) == name { // what is shown otherwise names another folder
			hint += ", or all of them as in " + shell.Quote(filepath.Clean(name)) + "/*"
		}
		return nil, usagef(hint, "it is a directory")
	case mode.IsRegular(), mode&fs.ModeNamedPipe != 0:
		f, err := os.Open(name)
		if err != nil {
			return nil, fileFault(err, missingHint(name))
		}
		return f, nil
	case mode&fs.ModeSocket != 0:
		return nil, usagef(readable, "it is a socket")
	default:
		return nil, usagef(readable, "it is a device")
	}
}

// missingHint says where a file that is not there was looked for.
func missingHint(name string) string {
	if filepath.IsAbs(name) {
		return "check the name"
	}
	here, err := os.Getwd()
	if err != nil {
		return "check the name, and the folder that dalirun is run in"
	}
	return "check the name; it was looked for from " + printable.Name(here) + " on"
}

// fileFault is why a file that a user named cannot be used. What is not there, or is no file, is named wrongly; one that is there and that the
// user may not have is the machine's.
func fileFault(err error, hint string) error {
	if errors.Is(err, fs.ErrPermission) {
		return pipeline.Faultf(pipeline.Environment, "let yourself read it: `ls -ld` of it and of its folders shows whose they are", "%w", bare(err))
	}
	return usagef(hint, "%w", bare(err))
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
		return nil, bare(err)
	}
	if n > limit {
		return nil, errTooLong
	}
	return data.Bytes(), nil
}

// bare is err without the name of the file, which its reader words, and perhaps has to quote.
func bare(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// shownName is the name of a file for people.
func shownName(name string) string {
	if name == stdinName {
		return stdinShown
	}
	return printable.Name(name)
}

// asUsage makes an error without a kind the user's: what a file that was named gives.
func asUsage(err error) error {
	if _, ok := errors.AsType[*pipeline.Fault](err); ok {
		return err
	}
	return usagef("", "%w", err)
}

// picture reads an encoded picture and refuses what a server should not get to decode.
func (in *input) picture(ctx context.Context, name string) (target.Picture, picture.Info, error) {
	limits := picture.DefaultLimits()
	data, err := in.read(ctx, name, limits.MaxBytes)
	shown := shownName(name)
	var info picture.Info
	switch {
	case ctx.Err() != nil:
		return target.Picture{}, info, context.Cause(ctx)
	case errors.Is(err, errTooLong):
		err = &picture.Error{Reason: picture.TooLarge, Detail: "more than " + bytesize.Format(limits.MaxBytes) + ", which is the limit"}
	case err != nil:
		return target.Picture{}, info, fmt.Errorf("read the picture: %s: %w", shown, asUsage(err))
	default:
		info, err = until(ctx, func() (picture.Info, error) { return picture.Check(data, limits) }) // it may take half a minute
	}
	if ended := context.Cause(ctx); ended != nil && errors.Is(err, ended) {
		return target.Picture{}, info, err
	}
	if err != nil {
		hint := ""
		if refused, ok := errors.AsType[*picture.Error](err); ok {
			hint = refused.Hint()
		}
		return target.Picture{}, info, usagef(hint, "%s: %w", shown, err)
	}
	return target.Picture{Name: shown, Data: data}, info, nil
}
