package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

const enough = 1 << 30

// exported returns a store with two entries, and its archive.
func exported(t *testing.T) (*store.Store, []byte) {
	t.Helper()
	s := open(t)
	commit(t, s, "bb", repository, "repo", "labels.txt")
	commitTree(t, s, "aa", "one")
	return s, export(t, s, "main")
}

func export(t *testing.T, s *store.Store, origin string) []byte {
	t.Helper()
	var b bytes.Buffer
	got, err := s.Export(t.Context(), &b, origin)
	if err != nil || got.Origin != origin {
		t.Fatalf("%+v, %v", got, err)
	}
	return b.Bytes()
}

// The same entries are the same bytes, whenever they are written and from wherever they came; what arrives is what was.
func TestArchive(t *testing.T) {
	t.Parallel()
	s, first := exported(t)
	if !bytes.Equal(first, export(t, s, "main")) {
		t.Error("the second export has other bytes")
	}
	if bytes.Equal(first, export(t, s, "pr")) {
		t.Error("another origin has the same bytes")
	}
	other := open(t)
	for _, added := range []int{2, 0} {
		got, err := other.Import(t.Context(), bytes.NewReader(first), "main", enough)
		if err != nil || got.Entries != 2 || got.Added != added || got.Origin != "main" {
			t.Errorf("%+v, %v; want %d added", got, err, added)
		}
	}
	if !bytes.Equal(first, export(t, other, "main")) {
		t.Error("what was imported is exported with other bytes")
	}
	for _, fp := range []pipeline.Fingerprint{"aa", "bb"} {
		want, got := get(t, s, fp), get(t, other, fp)
		for name, value := range got.Values() {
			if value.Digest != want.Values()[name].Digest {
				t.Errorf("%s of %s has another digest", name, fp)
			}
		}
		if err := got.Verify(); err != nil {
			t.Error(err)
		}
		closeEntry(t, want)
		closeEntry(t, got)
	}
	path := filepath.Join(get(t, other, "aa").Values()["tree"].Path, "program")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o555 {
		t.Errorf("%v, %v", info, err)
	}
	wantEmpty(t, other, "tmp", "locks")
}

// A damaged entry is mended by an archive, and refused for one.
func TestArchiveOfDamage(t *testing.T) {
	t.Parallel()
	s, data := exported(t)
	file := glob(t, s, "entries/aa/*/files/tree/sub/file")[0]
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("eno"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Export(t.Context(), io.Discard, "main")
	wantErr(t, err, pipeline.ErrDamaged, "sub/file")
	if got, err := s.Import(t.Context(), bytes.NewReader(data), "main", enough); err != nil || got.Added != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if !bytes.Equal(data, export(t, s, "main")) {
		t.Error("it was not mended")
	}
}

// refused sees that an archive is refused for a reason, and that nothing of it is left.
func refused(t *testing.T, what string, data []byte, want error) {
	t.Helper()
	s := open(t)
	before := picture(t, s)
	got, err := s.Import(t.Context(), bytes.NewReader(data), "main", 1<<20)
	if !errors.Is(err, want) || got != (store.Transfer{}) {
		t.Errorf("%s: %+v, %v; want %v", what, got, err, want)
	}
	wantEmpty(t, s, "tmp", "locks", "entries")
	after := picture(t, s)
	if len(before) != len(after) {
		t.Errorf("%s left %q", what, after)
	}
}

// No byte can be missing, other or too much.
func TestAlteredArchives(t *testing.T) {
	t.Parallel()
	_, data := exported(t)
	step := max(1, len(data)/150)
	for n := 0; n < len(data); n += step {
		refused(t, fmt.Sprintf("the first %d bytes", n), data[:n], store.ErrArchive)
		other := bytes.Clone(data)
		other[n] ^= 0x55
		s := open(t)
		got, err := s.Import(t.Context(), bytes.NewReader(other), "main", enough)
		switch {
		case err != nil:
			wantEmpty(t, s, "tmp", "locks", "entries")
		case !bytes.Equal(export(t, s, "main"), data): // a bit that zstd does not use
			t.Errorf("byte %d is another, and %+v came of it", n, got)
		}
	}
	refused(t, "one byte less", data[:len(data)-1], store.ErrArchive)
	refused(t, "a byte more", append(bytes.Clone(data), 'x'), store.ErrArchive)
	refused(t, "twice", append(bytes.Clone(data), data...), store.ErrArchive)
	refused(t, "nothing", nil, store.ErrArchive)
	refused(t, "no archive", []byte("dalirun"), store.ErrArchive)
}

// file is one of an archive.
type file struct {
	tar.Header
	content []byte
}

func unpacked(t *testing.T, data []byte) (all []file) {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file{*h, content})
	}
}

func packed(t *testing.T, all []file) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, f := range all {
		if f.Typeflag == tar.TypeReg {
			f.Size = int64(len(f.content))
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil && f.Typeflag == tar.TypeReg {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What somebody else made with care is refused too: names that lead elsewhere, links, twice the same, other contents.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	_, data := exported(t)
	regular := func(name, content string) file {
		return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(content)}
	}
	insert := func(all []file, i int, f file) []file {
		return append(append(append([]file{}, all[:i]...), f), all[i:]...)
	}
	manifest := func(fp, nodes string) []file {
		body := `{"fingerprint":"` + fp + `","step":"s","facts":{},"committed":"2026-01-01T00:00:00Z","outputs":[` + nodes + `]}`
		return []file{
			regular("dalirun-cache.json", `{"version":1,"origin":"main","entries":1}`),
			regular("entries/"+fp+"/manifest.json", string(store.Seal([]byte(body)))),
		}
	}
	for name, change := range map[string]func([]file) []file{
		"a path out of it":      func(all []file) []file { return insert(all, 1, regular("../../evil", "x")) },
		"an absolute path":      func(all []file) []file { return insert(all, 1, regular("/tmp/evil", "x")) },
		"a fingerprint of dots": func(all []file) []file { all[1].Name = "entries/../manifest.json"; return all },
		"the lock of imports":   func([]file) []file { return manifest("import", "") },
		"the lock of pins":      func([]file) []file { return manifest("pins", "") },
		"an entry twice":        func(all []file) []file { return append(all, all[1:]...) },
		"a file twice":          func(all []file) []file { return insert(all, 3, all[2]) },
		"a file more":           func(all []file) []file { return append(all, regular("entries/zz/manifest.json", "{}")) },
		"a file less":           func(all []file) []file { return all[:len(all)-1] },
		"another order":         func(all []file) []file { all[2], all[3] = all[3], all[2]; return all },
		"other contents":        func(all []file) []file { all[2].content[0] ^= 1; return all },
		"a longer file":         func(all []file) []file { all[2].content = append(all[2].content, 'x'); return all },
		"another manifest":      func(all []file) []file { all[1].content[len(all[1].content)/2] ^= 1; return all },
		"a symbolic link": func(all []file) []file {
			all[2] = file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: all[2].Name, Linkname: "/etc/passwd"}}
			return all
		},
		"a hard link": func(all []file) []file {
			all[2] = file{Header: tar.Header{Typeflag: tar.TypeLink, Name: all[2].Name, Linkname: all[1].Name}}
			return all
		},
		"a device": func(all []file) []file {
			all[2] = file{Header: tar.Header{Typeflag: tar.TypeChar, Name: all[2].Name}}
			return all
		},
		"a record of its own": func(all []file) []file {
			all[2].PAXRecords, all[2].Format = map[string]string{"DALIRUN.x": "1"}, tar.FormatPAX
			return all
		},
		"no head":       func(all []file) []file { return all[1:] },
		"another form":  func(all []file) []file { all[0].content = []byte(`{"version":2,"origin":"main"}`); return all },
		"a broken head": func(all []file) []file { all[0].content = []byte(`{`); return all },
		"a manifest that leads out": func([]file) []file {
			return manifest("aa", `{"name":"o","nodes":[{"path":"o","dir":true},{"path":"o/../../../x"}]}`)
		},
		"a manifest without folders": func([]file) []file {
			return append(manifest("aa", `{"name":"o","nodes":[{"path":"o","dir":true},{"path":"o/a/b"}]}`), regular("entries/aa/files/o/a/b", ""))
		},
		"a file as a folder": func([]file) []file {
			return append(manifest("aa", `{"name":"o","nodes":[{"path":"o"},{"path":"o/a"}]}`), regular("entries/aa/files/o", ""), regular("entries/aa/files/o/a", ""))
		},
		"a manifest that lists a folder twice": func([]file) []file {
			return manifest("aa", `{"name":"o","nodes":[{"path":"o","dir":true}]},{"name":"o","nodes":[{"path":"o","dir":true}]}`)
		},
		"a size below nothing": func([]file) []file {
			return append(manifest("aa", `{"name":"o","nodes":[{"path":"o","size":-1}]}`), regular("entries/aa/files/o", ""))
		},
	} {
		refused(t, name, packed(t, change(unpacked(t, data))), store.ErrArchive)
	}
	s := open(t)
	if _, err := s.Import(t.Context(), bytes.NewReader(packed(t, unpacked(t, data))), "main", enough); err != nil {
		t.Errorf("what was only packed again: %v", err)
	}
	refused(t, "another origin", export(t, s, "pr"), store.ErrOrigin)
}

// However small an archive is, it makes no more than it may: not by one file, by many, by its head or by folders.
func TestBombs(t *testing.T) {
	t.Parallel()
	s := open(t)
	commit(t, s, "zeros", tree{"out": strings.Repeat("\x00", 2<<20)}, "out")
	data := export(t, s, "main")
	if len(data) > 10<<10 {
		t.Fatalf("it has %d bytes, and proves nothing", len(data))
	}
	refused(t, "a large file", data, store.ErrTooLarge)
	folders := open(t)
	many := tree{}
	for i := range 3000 {
		many[fmt.Sprintf("out/%d/", i)] = ""
	}
	commit(t, folders, "folders", many, "out")
	refused(t, "many folders", export(t, folders, "main"), store.ErrTooLarge)
	refused(t, "a large head", packed(t, []file{{
		tar.Header{Typeflag: tar.TypeReg, Name: "dalirun-cache.json"}, make([]byte, 2<<20),
	}}), store.ErrTooLarge)
	first := unpacked(t, data)
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err == nil {
		_, err = z.Write(make([]byte, 64<<20))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	refused(t, "zeros behind it", append(packed(t, first[:1]), b.Bytes()...), store.ErrArchive)
}

// endless never ends.
type endless struct{ cancel context.CancelFunc }

func (e endless) Read(p []byte) (int, error) {
	e.cancel()
	return copy(p, "x"), nil
}

// Who cancels leaves nothing, and an import waits for another one.
func TestImportIsCancelled(t *testing.T) {
	t.Parallel()
	_, data := exported(t)
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, io.MultiReader(bytes.NewReader(data[:len(data)/2]), endless{cancel}), "main", enough)
	wantErr(t, err, context.Canceled)
	wantEmpty(t, s, "tmp", "locks", "entries")
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun, end := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Import(t.Context(), begun, "main", enough)
		done <- err
	}()
	if _, err := end.Write(data[:10]); err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(ctx, bytes.NewReader(data), "main", enough)
	wantErr(t, err, context.DeadlineExceeded)
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := end.Write(data[10:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(end.Close(), <-done); err != nil {
		t.Errorf("the first import: %v", err)
	}
	if diff := cmp.Diff(2, len(glob(t, s, "entries/*"))); diff != "" {
		t.Error(diff)
	}
}

// A killed import leaves what the next sweep deletes.
func TestKilledImport(t *testing.T) {
	t.Parallel()
	s := open(t)
	half := filepath.Join(s.Dir(), "tmp", "import.123", "aa", "files")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s, "tmp", "locks")
}
