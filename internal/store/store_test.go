package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

func TestCommitAndGet(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := s.Get("f1")
	wantErr(t, err, pipeline.ErrMiss)

	made := commit(t, s, "f1", repository, "repo", "labels.txt")
	e := get(t, s, "f1")
	defer closeEntry(t, e)
	if diff := cmp.Diff(made, e.Values()); diff != "" {
		t.Errorf("what was committed is not what is there (-committed +there):\n%s", diff)
	}
	if err := e.Verify(); err != nil {
		t.Error(err)
	}
	for path, content := range repository {
		if strings.HasPrefix(path, "scratch") || strings.HasSuffix(path, "/") {
			continue
		}
		name, rest, _ := strings.Cut(path, "/")
		full := filepath.Join(e.Values()[name].Path, rest)
		got, err := os.ReadFile(full)
		if err != nil || string(got) != content {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
		if info, err := os.Stat(full); err != nil || info.Mode() != 0o444 {
			t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
		}
	}
	wantEmpty(t, s, "tmp", "locks")
	if info, err := os.Stat(s.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the store's folder is %v, %v", info.Mode(), err)
	}
}

func TestDigests(t *testing.T) {
	t.Parallel()
	s := open(t)
	digest := func(fp pipeline.Fingerprint, prepare func(dir string)) string {
		tx := begin(t, s, fp)
		prepare(tx.Dir())
		e, err := tx.Commit("s", nil, []string{"out"})
		if err != nil {
			t.Fatal(err)
		}
		defer closeEntry(t, e)
		return e.Values()["out"].Digest
	}
	write := func(tr tree) func(string) { return func(dir string) { tr.write(t, dir) } }
	// The digest of a file is what sha256sum prints.
	if got, want := digest("file", write(tree{"out": "abc"})), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; got != want {
		t.Errorf("the digest of abc is %s instead of %s", got, want)
	}
	base := digest("base", write(tree{"out/a": "1", "out/b/c": "2"}))
	if again := digest("again", write(tree{"out/a": "1", "out/b/c": "2"})); again != base {
		t.Errorf("one content has two digests, %s and %s", base, again)
	}
	for name, prepare := range map[string]func(string){
		"content":      write(tree{"out/a": "1", "out/b/c": "3"}),
		"name":         write(tree{"out/a": "1", "out/b/d": "2"}),
		"empty-folder": write(tree{"out/a": "1", "out/b/c": "2", "out/d/": ""}),
		"moved":        write(tree{"out/a": "1", "out/c": "2", "out/b/": ""}),
		"executable": func(dir string) {
			tree{"out/a": "1", "out/b/c": "2"}.write(t, dir)
			if err := os.Chmod(filepath.Join(dir, "out/a"), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if other := digest(pipeline.Fingerprint(name), prepare); other == base {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, "model.onnx")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		outputs []string
		word    string
	}{
		{"missing", nil, []string{"model.onnx", "other"}, "it did not make model.onnx, other"},
		{"symbolic link", link, []string{"model.onnx"}, "model.onnx is neither"},
		{"outside", nil, []string{"../x"}, `"../x"`},
		{"everything", nil, []string{"."}, `"."`},
		{"nameless", nil, []string{""}, `""`},
		{"nested", nil, []string{"a/b"}, `"a/b"`},
		{"twice", func(t *testing.T, dir string) { t.Helper(); tree{"a": ""}.write(t, dir) }, []string{"a", "a"}, "twice"},
		{"not UTF-8", func(t *testing.T, dir string) { t.Helper(); tree{"d/\xff": ""}.write(t, dir) }, []string{"d"}, "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			tx := begin(t, s, "f")
			if c.prepare != nil {
				c.prepare(t, tx.Dir())
			}
			if _, err := tx.Commit("s", nil, c.outputs); err == nil || !strings.Contains(err.Error(), c.word) {
				t.Errorf("the error is %v and does not say %q", err, c.word)
			}
			_, err := s.Get("f")
			wantErr(t, err, pipeline.ErrMiss)
			wantEmpty(t, s, "tmp", "locks", "entries")
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, fp := range []pipeline.Fingerprint{"", ".", "..", "../../etc", "a/b", `a\b`, pipeline.Fingerprint(strings.Repeat("a", 129))} {
		if _, err := s.Begin(t.Context(), fp, nil); err == nil {
			t.Errorf("Begin took the fingerprint %q", fp)
		}
		if _, err := s.Get(fp); err == nil || errors.Is(err, pipeline.ErrMiss) {
			t.Errorf("Get took the fingerprint %q: %v", fp, err)
		}
		if err := s.Drop(fp); err == nil {
			t.Errorf("Drop took the fingerprint %q", fp)
		}
		if err := s.Note("/w", pipeline.ID(fp), nil); err == nil {
			t.Errorf("Note took the step %q", fp)
		}
	}
}

func TestRollback(t *testing.T) {
	t.Parallel()
	s := open(t)
	tx := begin(t, s, "f")
	tree{"locked/deep/file": "x"}.write(t, tx.Dir())
	if err := os.Chmod(filepath.Join(tx.Dir(), "locked", "deep"), 0o500); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
	if _, err := tx.Commit("s", nil, nil); err == nil {
		t.Error("a transaction was committed after it was rolled back")
	}
	wantEmpty(t, s, "tmp", "locks", "entries")

	tx = begin(t, s, "f")
	tree{"a": "x"}.write(t, tx.Dir())
	e, err := tx.Commit("s", nil, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	defer closeEntry(t, e)
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	closeEntry(t, get(t, s, "f"))
}

func TestBeginWaits(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := begin(t, s, "f")
	holders := make(chan string, 10)
	second := make(chan error, 1)
	go func() {
		tx, err := s.Begin(t.Context(), "f", func(holder string) { holders <- holder })
		if err == nil {
			err = tx.Rollback()
		}
		second <- err
	}()
	if holder := <-holders; !strings.Contains(holder, "process ") {
		t.Errorf("the holder is %q", holder)
	}
	begin(t, s, "other").Rollback() //nolint:errcheck // that it is not blocked is the point
	if err := first.Rollback(); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if len(holders) > 0 {
		t.Error("waiting was called more than once")
	}
	wantEmpty(t, s, "tmp", "locks")
}

func TestBeginGivesUp(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := begin(t, s, "f")
	cause := errors.New("interrupted by the user")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := s.Begin(ctx, "f", func(string) { cancel(cause) })
	wantErr(t, err, cause, "process ")
	if err := first.Rollback(); err != nil {
		t.Error(err)
	}
}

func TestOneBuilderAtATime(t *testing.T) {
	t.Parallel()
	s := open(t)
	var mu sync.Mutex
	building, built := 0, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tx, err := s.Begin(t.Context(), "f", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := tx.Rollback(); err != nil {
					t.Error(err)
				}
			}()
			if e, err := s.Get("f"); err == nil {
				closeEntry(t, e)
				return
			}
			mu.Lock()
			if building++; building > 1 {
				t.Error("two build at a time")
			}
			built++
			mu.Unlock()
			tree{"a": "x"}.write(t, tx.Dir())
			mu.Lock()
			building--
			mu.Unlock()
			e, err := tx.Commit("s", nil, []string{"a"})
			if err != nil {
				t.Error(err)
				return
			}
			closeEntry(t, e)
		})
	}
	wg.Wait()
	if built != 1 {
		t.Errorf("it was built %d times", built)
	}
}

func TestCommitReplaces(t *testing.T) {
	t.Parallel()
	s := open(t)
	commit(t, s, "f", tree{"a": "old"}, "a")
	reader := get(t, s, "f")
	commit(t, s, "f", tree{"a": "new"}, "a")
	// Who reads the old one can go on.
	if got, err := os.ReadFile(reader.Values()["a"].Path); err != nil || string(got) != "old" {
		t.Errorf("the reader of the old entry finds %q, %v", got, err)
	}
	e := get(t, s, "f")
	if got, err := os.ReadFile(e.Values()["a"].Path); err != nil || string(got) != "new" {
		t.Errorf("the new entry holds %q, %v", got, err)
	}
	closeEntry(t, e)
	old := reader.Values()["a"].Path
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the old entry was swept away under its reader: %v", err)
	}
	closeEntry(t, reader)
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old entry is still there: %v", err)
	}
	closeEntry(t, get(t, s, "f"))
}

func TestOpenAtATime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there yet")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := store.Open(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, err := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG"))
	if err != nil || !strings.HasPrefix(string(data), "Signature: 8a477f597d28d172789f06886806bc55\n") {
		t.Errorf("CACHEDIR.TAG holds %q, %v", data, err)
	}
	if _, err := store.Open(filepath.Join(dir, "CACHEDIR.TAG")); err == nil {
		t.Error("a file was opened as a store")
	}
}

func TestPinOfWhatIsNoEntry(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, p := range []string{"/etc/passwd", s.Dir(), filepath.Join(s.Dir(), "entries"), filepath.Join(s.Dir(), "entries", "f"), filepath.Join(s.Dir(), "tmp", "x", "y", "z"), "relative"} {
		if err := s.Pin(t.Context(), p, "w", func() error { t.Errorf("%s was pinned", p); return nil }); err == nil || !strings.Contains(err.Error(), "is in no entry of the cache") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
