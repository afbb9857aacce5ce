package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/pipeline"
)

// An archive of a cache is a tar of these files, in this order and no others, compressed by zstd:
//
//	dalirun-cache.json                      [archiveHead]
//	entries/<fingerprint>/manifest.json     of each entry, by fingerprint
//	entries/<fingerprint>/files/<path>      its files, in the manifest's order; folders are in the manifest alone
//
// Its bytes depend on the entries and the origin alone. So a reader knows each name before it reads it: a name never
// leads anywhere, and what does not belong there is refused.

const (
	archiveHeadName = "dalirun-cache.json"
	archiveVersion  = 1

	// mostManifest bounds a manifest in an archive, in bytes. ResNet50's have a few kilobytes.
	mostManifest = 16 << 20
	// archiveWindow bounds the memory of zstd on both sides, in bytes.
	archiveWindow = 8 << 20
	// blockSize is what a file costs in a tar besides its content, in bytes; a file costs as much on a disk at least.
	blockSize = 512
)

// ErrArchive says that a file is no whole archive of a cache that can be trusted to be what was exported.
var ErrArchive = errors.New("is no whole archive of a cache")

// ErrOrigin says that an archive has another origin than the one that was asked for.
var ErrOrigin = errors.New("has another origin")

// ErrTooLarge says that an archive has more than it may have.
var ErrTooLarge = errors.New("is larger than it may be")

// archiveHead says what an archive is.
type archiveHead struct {
	Version int    `json:"version"`
	Origin  string `json:"origin"`
	Entries int    `json:"entries"`
}

// Transfer is what was exported or imported.
type Transfer struct {
	Origin  string `json:"origin"`
	Entries int    `json:"entries"` // of the archive
	Added   int    `json:"added"`   // those that the cache did not have; 0 of an export
	Bytes   int64  `json:"bytes"`   // of the entries' files
}

// CheckOrigin refuses what cannot be the origin of an archive: it is a word.
func CheckOrigin(origin string) error { return checkName("origin", origin) }

// Export writes all entries of the store to w, with an origin, which is a word such as the name of a branch. The same
// entries and origin are the same bytes. Each byte is checked against its manifest as it is read: an entry that is
// damaged is an [pipeline.ErrDamaged]. It writes nothing to the store.
func (s *Store) Export(ctx context.Context, w io.Writer, origin string) (t Transfer, err error) {
	t.Origin = origin
	if err := CheckOrigin(origin); err != nil {
		return t, err
	}
	entries, err := s.openAll(ctx)
	defer func() {
		for _, e := range entries {
			err = errors.Join(err, e.Close())
		}
	}()
	if err != nil {
		return t, fmt.Errorf("export the cache: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(archiveWindow),
		zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return t, fmt.Errorf("export the cache: %w", err)
	}
	a := archiveWriter{ctx: ctx, tar: tar.NewWriter(z)}
	t.Entries = len(entries)
	a.json(archiveHeadName, archiveHead{Version: archiveVersion, Origin: origin, Entries: t.Entries})
	for _, e := range entries {
		a.entry(e)
	}
	t.Bytes = a.bytes
	if err := errors.Join(a.err, a.tar.Close(), z.Close()); err != nil {
		return t, fmt.Errorf("export the cache: %w", err)
	}
	return t, nil
}

// openAll opens the newest entry of each fingerprint, in their order.
func (s *Store) openAll(ctx context.Context) ([]*entry, error) {
	var all []*entry
	err := s.visitEntries(ctx, func(fp pipeline.Fingerprint, _ []string) error {
		e, err := s.open(fp)
		if errors.Is(err, pipeline.ErrMiss) {
			return nil
		}
		if err == nil {
			all = append(all, e)
		}
		return err
	})
	return all, err
}

// archiveWriter writes files until one fails.
type archiveWriter struct {
	ctx   context.Context //nolint:containedctx // of the one call of Export
	tar   *tar.Writer
	bytes int64
	err   error
}

func (a *archiveWriter) json(name string, v any) {
	data, err := json.Marshal(v)
	a.err = errors.Join(a.err, err)
	a.file(name, int64(len(data)), false, bytes.NewReader(data))
}

func (a *archiveWriter) file(name string, size int64, executable bool, r io.Reader) {
	if a.err == nil && a.ctx.Err() != nil {
		a.err = context.Cause(a.ctx)
	}
	if a.err != nil {
		return
	}
	mode := int64(fileMode)
	if executable {
		mode = executableMode
	}
	// No owner and no time: these are of the machine, and not of the entry.
	a.err = a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, Format: tar.FormatPAX,
	})
	if a.err == nil {
		_, a.err = io.Copy(a.tar, r)
	}
}

func (a *archiveWriter) entry(e *entry) {
	if a.err == nil {
		a.err = e.Verify()
	}
	data, err := encodeManifest(e.manifest)
	a.err = errors.Join(a.err, err)
	folder := "entries/" + string(e.manifest.Fingerprint) + "/"
	a.file(folder+manifestName, int64(len(data)), false, bytes.NewReader(data))
	for _, n := range e.manifest.nodes() {
		if n.Dir || a.err != nil {
			continue
		}
		f, err := os.Open(filepath.Join(e.files(), filepath.FromSlash(n.Path)))
		if err != nil {
			a.err = damage(n.Path, err)
			continue
		}
		h := sha256.New() // of these very bytes: a disk may give others the second time
		a.file(folder+filesName+"/"+n.Path, n.Size, n.Exec, io.TeeReader(f, h))
		a.bytes += n.Size
		if a.err == nil && "sha256:"+hex.EncodeToString(h.Sum(nil)) != n.Digest {
			a.err = damage(n.Path, errors.New("its content was changed"))
		}
		a.err = errors.Join(a.err, f.Close())
	}
}

// IsArchive reports whether a file begins as one that [Store.Export] wrote.
func IsArchive(r io.Reader) bool {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(archiveWindow))
	if err != nil {
		return false
	}
	defer z.Close()
	first, err := tar.NewReader(z).Next()
	return err == nil && first.Name == archiveHeadName
}
