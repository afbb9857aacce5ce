package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/pipeline"
)

// importLock is the lock of the process that imports. It cannot be a fingerprint, which is a hash.
const importLock = "import"

// Import adds the entries of an archive that the store lacks. It refuses an archive of another origin with
// [ErrOrigin], one that has more than most bytes, unpacked, with [ErrTooLarge], and one that is not in all what
// [Store.Export] wrote, with [ErrArchive]: nobody sees an entry before the whole archive was read and each byte of it
// was found to be what its manifest says, and of a refused one nothing is left. A disk that fails behind that may leave
// some entries, each whole.
func (s *Store) Import(ctx context.Context, r io.Reader, origin string, most int64) (t Transfer, err error) {
	lock, err := s.buildLock(ctx, importLock, nil)
	if err != nil {
		return t, fmt.Errorf("import into the cache: %w", err)
	}
	defer func() { err = errors.Join(err, releaseBuildLock(lock)) }()
	root, err := os.MkdirTemp(s.path("tmp"), importLock+".") // which Sweep deletes once the lock is free
	if err != nil {
		return t, fmt.Errorf("import into the cache: %w", err)
	}
	defer func() { err = errors.Join(err, removeTree(root)) }()
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(archiveWindow),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return t, fmt.Errorf("import into the cache: %w", err)
	}
	defer z.Close()
	a := archiveReader{ctx: ctx, left: most}
	a.tar = tar.NewReader(a.limited(z))
	staged, err := a.read(root, origin)
	if err == nil {
		err = a.end(z)
	}
	if err != nil {
		return Transfer{}, a.explain(err, most)
	}
	t = Transfer{Origin: origin, Entries: len(staged), Bytes: a.bytes}
	for _, g := range staged {
		added, err := s.addStaged(ctx, g)
		if err != nil {
			return t, fmt.Errorf("import into the cache: %w", err)
		}
		if added {
			t.Added++
		}
	}
	return t, nil
}

// addStaged makes a staged entry one of the store, unless there is a whole one.
func (s *Store) addStaged(ctx context.Context, g staging) (added bool, err error) {
	fp := g.manifest.Fingerprint
	lock, err := s.buildLock(ctx, fp, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, releaseBuildLock(lock)) }()
	e, err := s.open(fp)
	if err == nil {
		err = errors.Join(e.Verify(), e.Close())
	}
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, pipeline.ErrMiss), errors.Is(err, pipeline.ErrDamaged):
		// The random part of the staging folder's name, and the entry's own: no other has both.
		random := strings.TrimPrefix(filepath.Base(filepath.Dir(g.dir)), importLock+".")
		return true, s.take(g.dir, fp, random)
	default:
		return false, err
	}
}

// archiveReader reads an archive whose every name it knows before.
type archiveReader struct {
	ctx   context.Context //nolint:containedctx // of the one call of Import
	tar   *tar.Reader
	left  int64 // bytes that may still come, unpacked
	bytes int64 // of entries' files
	disk  error // of writing
}

// limited ends with ErrTooLarge once more was read than may come, whatever is in it.
func (a *archiveReader) limited(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if a.ctx.Err() != nil {
			return 0, context.Cause(a.ctx)
		}
		if a.left < 0 {
			return 0, ErrTooLarge
		}
		n, err := r.Read(p)
		a.left -= int64(n)
		if a.left < 0 {
			return 0, ErrTooLarge
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

// Read calls f.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read stages all entries below root.
func (a *archiveReader) read(root, origin string) ([]staging, error) {
	data, err := a.small(archiveHeadName)
	if err != nil {
		return nil, err
	}
	var head archiveHead
	switch err := json.Unmarshal(data, &head); {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", archiveHeadName, err)
	case head.Version != archiveVersion:
		return nil, fmt.Errorf("it has the form %d, and this dalirun reads %d", head.Version, archiveVersion)
	case head.Origin != origin:
		return nil, fmt.Errorf("%w: %q, and %q was asked for", ErrOrigin, head.Origin, origin)
	}
	var staged []staging
	last := pipeline.Fingerprint("")
	for range head.Entries {
		g, err := a.entry(root, last)
		if err != nil {
			return nil, err
		}
		staged, last = append(staged, g), g.manifest.Fingerprint
	}
	return staged, nil
}

// entry stages the next entry, whose fingerprint comes after last.
func (a *archiveReader) entry(root string, last pipeline.Fingerprint) (g staging, err error) {
	h, err := a.next()
	if err != nil {
		return g, err
	}
	name, isEntry := strings.CutPrefix(h.Name, "entries/")
	name, isManifest := strings.CutSuffix(name, "/"+manifestName)
	fp := pipeline.Fingerprint(name)
	if !isEntry || !isManifest || checkName("fingerprint", name) != nil || name == importLock || name == pinLock {
		return g, fmt.Errorf("%q does not belong there", h.Name)
	}
	if fp <= last {
		return g, fmt.Errorf("%q is there twice, or in the wrong place", h.Name)
	}
	data, err := a.content(h)
	if err != nil {
		return g, err
	}
	g = staging{dir: filepath.Join(root, string(fp))}
	if g.manifest, err = decodeManifest(data); err == nil && g.manifest.Fingerprint != fp {
		err = fmt.Errorf("it is of another entry, %s", g.manifest.Fingerprint)
	}
	if err == nil {
		err = g.manifest.checkNodes()
	}
	if err != nil {
		return g, fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := g.begin(); err != nil {
		return g, a.failed(err)
	}
	for _, n := range g.manifest.nodes() {
		if err := a.node(g, n); err != nil {
			return g, err
		}
	}
	if err := g.finish(); err != nil {
		if !errors.Is(err, pipeline.ErrDamaged) {
			return g, a.failed(err)
		}
		return g, fmt.Errorf("the entry %s: %w", fp, err)
	}
	return g, nil
}

// checkNodes refuses files and folders that cannot be made one after the other, each once.
func (m manifest) checkNodes() error {
	folders := map[string]bool{".": true}
	made := map[string]bool{}
	for _, n := range m.nodes() {
		switch {
		case made[n.Path], path.Clean(n.Path) != n.Path, n.Size < 0, n.Dir && n.Size != 0:
			return fmt.Errorf("it lists %q twice, or not as Export does", n.Path)
		case !folders[path.Dir(n.Path)]:
			return fmt.Errorf("it lists %q, but no folder for it", n.Path)
		}
		made[n.Path] = true
		if n.Dir {
			folders[n.Path] = true
		}
	}
	return nil
}

// node stages a folder, or the next file.
func (a *archiveReader) node(g staging, n node) error {
	if n.Dir {
		if a.left -= blockSize; a.left < 0 {
			return ErrTooLarge
		}
		return a.failed(g.add(n, nil))
	}
	h, err := a.next()
	if err != nil {
		return err
	}
	want := "entries/" + string(g.manifest.Fingerprint) + "/" + filesName + "/" + n.Path
	if h.Name != want || h.Size != n.Size {
		return fmt.Errorf("%q of %d bytes is in the place of %q of %d", h.Name, h.Size, want, n.Size)
	}
	if n.Size > a.left {
		return ErrTooLarge
	}
	a.bytes += n.Size
	return a.failed(g.add(n, a.tar))
}

// next is the next file.
func (a *archiveReader) next() (*tar.Header, error) {
	h, err := a.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%q is no file", h.Name)
	}
	for key := range h.PAXRecords { // a sparse file has more bytes than are read
		if key != "path" && key != "size" {
			return nil, fmt.Errorf("%q has a record %q", h.Name, key)
		}
	}
	return h, nil
}

// small is the content of the next file, which must have that name.
func (a *archiveReader) small(name string) ([]byte, error) {
	h, err := a.next()
	if err == nil && h.Name != name {
		err = fmt.Errorf("it begins with %q", h.Name)
	}
	if err != nil {
		return nil, err
	}
	return a.content(h)
}

func (a *archiveReader) content(h *tar.Header) ([]byte, error) {
	if h.Size > mostManifest {
		return nil, fmt.Errorf("%q has %d bytes, which no manifest has", h.Name, h.Size)
	}
	return io.ReadAll(a.tar)
}

// end finds the archive to have nothing behind its last entry.
func (a *archiveReader) end(z io.Reader) error {
	if h, err := a.tar.Next(); err == nil {
		return fmt.Errorf("%q does not belong there", h.Name)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	rest, err := io.Copy(io.Discard, a.limited(z)) // which checks zstd's checksum as well
	if err == nil && rest > 0 {
		err = fmt.Errorf("%d bytes do not belong there", rest)
	}
	return err
}

// failed keeps an error of the disk apart from those of the archive.
func (a *archiveReader) failed(err error) error {
	if _, ofDisk := errors.AsType[*os.PathError](err); ofDisk {
		a.disk = err
	}
	return err
}

// explain says of an error of reading whose it is.
func (a *archiveReader) explain(err error, most int64) error {
	switch {
	case a.ctx.Err() != nil:
		return context.Cause(a.ctx)
	case a.disk != nil:
		return fmt.Errorf("import into the cache: %w", a.disk)
	case errors.Is(err, ErrTooLarge):
		return fmt.Errorf("it %w, %s unpacked", ErrTooLarge, bytesize.Format(most))
	case errors.Is(err, ErrOrigin):
		return fmt.Errorf("it %w", err)
	default:
		return fmt.Errorf("it %w: %w", ErrArchive, err)
	}
}
