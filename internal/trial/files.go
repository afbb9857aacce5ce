package trial

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// mostPictures bounds the pictures that are in memory, all at a time: none is read while a server is measured.
	mostPictures = 1 << 30
	// mostBaseline bounds a baseline, which has some kilobytes.
	mostBaseline = 16 << 20
)

// pictures are those that are named, as they are sent: what a server should not get to decode is refused.
func (r Request) pictures(ctx context.Context, files *userfile.Reader) ([][]byte, error) {
	if len(r.Pictures) == 0 {
		return [][]byte{r.Sample}, nil
	}
	named, err := classify.Pictures(ctx, files, classify.Names{Arguments: r.Pictures})
	if err != nil {
		return nil, err
	}
	var all [][]byte
	size := 0
	for _, p := range named {
		if p.Err != nil {
			return nil, p.Err
		}
		data, _, err := files.Picture(ctx, p.Name)
		if err != nil {
			return nil, err
		}
		if size += len(data); size > mostPictures {
			return nil, pipeline.Usagef("name fewer; a few hundred tell as much",
				"the pictures have more than %s, and all are kept in memory", bytesize.Format(mostPictures))
		}
		all = append(all, data)
	}
	return all, nil
}

// digest tells pictures and their order from others.
func digest(pictures [][]byte) string {
	hash := sha256.New()
	for _, p := range pictures {
		hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		hash.Write(p)
	}
	return fmt.Sprintf("sha256:%x", hash.Sum(nil))
}

// readBaseline reads the baseline that is named, if one is.
func (t Trial) readBaseline(ctx context.Context) (bench.Baseline, error) {
	r := t.Request
	if r.Baseline == "" {
		return bench.Baseline{}, nil
	}
	data, err := t.Files.Read(ctx, r.Baseline, mostBaseline)
	if ctx.Err() != nil {
		return bench.Baseline{}, context.Cause(ctx)
	}
	var b bench.Baseline
	if err == nil {
		if b, err = bench.ReadBaseline(data); err != nil {
			err = pipeline.Usagef("name a file that `dalirun bench --save-baseline FILE` wrote", "%w", err)
		}
	}
	if err != nil {
		return b, fmt.Errorf("%s: %w", r.baseline(), userfile.AsUsage(err))
	}
	return b, nil
}

// file is a file that is being written under another name beside the one that it replaces at the end.
type file struct {
	name string   // as the user named it
	path string   // what that is, links followed
	next *os.File // nil once it is written
}

// newFile makes a file that takes the place of name once it is written; nil if the name is empty. One that cannot be
// made is told of before minutes of work.
func newFile(name string) (*file, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no file is asked for
	}
	path, err := userfile.Replaceable(name, "file", nil)
	if _, other := errors.AsType[*userfile.OtherError](err); other {
		return nil, pipeline.Usagef("name a file with --save-baseline", "%w", err)
	}
	if err != nil {
		return nil, userfile.MakeFault("save the baseline", err)
	}
	// No other file is touched, a second bench's neither. os.CreateTemp's would be readable by this user alone.
	//nolint:gosec // as os.Create
	next, err := os.OpenFile(path+"."+rand.Text()+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		failed.Path = name // the one that the user knows
	}
	if err != nil {
		return nil, userfile.MakeFault("save the baseline", err)
	}
	return &file{name: name, path: path, next: next}, nil
}

// discard removes a file that was not written.
func (f *file) discard() {
	if f == nil || f.next == nil {
		return
	}
	_ = f.next.Close() // nothing was written
	_ = os.Remove(f.next.Name())
}

// save writes a baseline of all runs.
func (t Trial) save(f *file, result bench.Result) error {
	b, err := bench.NewBaseline(t.Request.Program, time.Now(), result.Environment, result.Runs)
	if err != nil {
		return pipeline.Faultf(pipeline.NotReady, fewerHint, "save the baseline: %w", err)
	}
	var text bytes.Buffer
	if err := b.WriteJSON(&text); err != nil {
		return err
	}
	next := f.next
	f.next = nil // whatever becomes of it, it is closed
	if err := fsync.Replace(f.path, next, text.Bytes()); err != nil {
		return pipeline.Faultf(pipeline.Environment, "", "save the baseline: %w", err)
	}
	t.Notice("saved the baseline " + userfile.Shown(f.name))
	return nil
}
