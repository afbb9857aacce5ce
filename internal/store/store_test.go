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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// open returns a store in a path with a space and letters beyond ASCII.
func open(tb testing.TB) *store.Store {
	tb.Helper()
	s, err := store.Open(filepath.Join(tb.TempDir(), "Zwischenspeicher für Übung 模型"))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// tree is what a test writes: contents by path. A path that ends in a slash is an empty folder.
type tree map[string]string

func (t tree) write(tb testing.TB, dir string) {
	tb.Helper()
	for path, content := range t {
		full := filepath.Join(dir, path)
		folder, err := filepath.Dir(full), error(nil)
		if strings.HasSuffix(path, "/") {
			folder = full
		}
		err = os.MkdirAll(folder, 0o700)
		if err == nil && folder != full {
			err = os.WriteFile(full, []byte(content), 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func begin(tb testing.TB, s *store.Store, fp pipeline.Fingerprint) pipeline.Tx {
	tb.Helper()
	tx, err := s.Begin(tb.Context(), fp, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return tx
}

// commit stores t under fp, and leaves the entry closed.
func commit(tb testing.TB, s *store.Store, fp pipeline.Fingerprint, t tree, outputs ...string) pipeline.Values {
	tb.Helper()
	tx := begin(tb, s, fp)
	t.write(tb, tx.Dir())
	e, err := tx.Commit("build-engine", pipeline.Facts{"argv": "trtexec"}, outputs)
	if err != nil {
		tb.Fatal(err)
	}
	defer closeEntry(tb, e)
	return e.Values()
}

func get(tb testing.TB, s *store.Store, fp pipeline.Fingerprint) pipeline.Entry {
	tb.Helper()
	e, err := s.Get(fp)
	if err != nil {
		tb.Fatalf("get: %v", err)
	}
	return e
}

func closeEntry(tb testing.TB, e pipeline.Entry) {
	tb.Helper()
	if err := e.Close(); err != nil {
		tb.Error(err)
	}
}

func wantErr(tb testing.TB, err, want error, words ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("the error is %v instead of %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// wantEmpty sees that nothing is left in the folders of a store that hold only what is under way.
func wantEmpty(tb testing.TB, s *store.Store, folders ...string) {
	tb.Helper()
	for _, f := range folders {
		list, err := os.ReadDir(filepath.Join(s.Dir(), f))
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range list {
			tb.Errorf("%s/%s was left", f, e.Name())
		}
	}
}

var repository = tree{
	"repo/dali/1/model.dali":       "dali",
	"repo/dali/config.pbtxt":       "name: \"dali\"",
	"repo/ensemble/1/":             "",
	"repo/resnet50_trt/1/plan":     "engine",
	"repo/weird 名/a-b":             "dash sorts before slash",
	"repo/weird 名/a/b":             "and slash after",
	"labels.txt":                   "espresso\n",
	"scratch/not stored/leftovers": "x",
}

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
		if err := s.Pin(fp, "x"); err == nil {
			t.Errorf("Pin took the fingerprint %q", fp)
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
	told := make(chan string, 10)
	second := make(chan error, 1)
	go func() {
		tx, err := s.Begin(t.Context(), "f", func(holder string) { told <- holder })
		if err == nil {
			err = tx.Rollback()
		}
		second <- err
	}()
	if holder := <-told; !strings.Contains(holder, "process ") {
		t.Errorf("the holder is %q", holder)
	}
	begin(t, s, "other").Rollback() //nolint:errcheck // that it is not blocked is the point
	if err := first.Rollback(); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Error("the waiting was told more than once")
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

func TestNotes(t *testing.T) {
	t.Parallel()
	s := open(t)
	last := func(workspace string, id pipeline.ID) pipeline.Facts {
		t.Helper()
		f, err := s.Last(workspace, id)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := last("/w", "serve"); f != nil {
		t.Errorf("before any note there is %v", f)
	}
	want := pipeline.Facts{"gpu": "H100", "argv": "--fp16"}
	if err := s.Note("/w", "serve", want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last("/w", "serve")); diff != "" {
		t.Error(diff)
	}
	if last("/other", "serve") != nil || last("/w", "verify") != nil {
		t.Error("a note of one step in one workspace is another's, too")
	}
	if err := s.Note("/w", "verify", nil); err != nil {
		t.Fatal(err)
	}
	if last("/w", "verify") == nil {
		t.Error("a result without facts is none")
	}
	for _, path := range glob(t, s, "last/*/serve.json") {
		if err := os.WriteFile(path, []byte(`{"workspace":"/w","fac`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f := last("/w", "serve"); f != nil {
		t.Errorf("a damaged note says %v", f)
	}
	if err := s.Note("/w", "serve", want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last("/w", "serve")); diff != "" {
		t.Error(diff)
	}
	wantEmpty(t, s, "tmp")
}

func TestRefs(t *testing.T) {
	t.Parallel()
	s := open(t)
	if v, ok := s.Recall("image a"); ok {
		t.Errorf("it remembers %q without having been told", v)
	}
	for _, v := range []string{"sha256:1", "sha256:2", "sha256:2", ""} {
		if err := s.Remember("image a", v); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Recall("image a"); !ok || got != v {
			t.Errorf("it remembers %q, %t instead of %q", got, ok, v)
		}
	}
	for _, path := range glob(t, s, "refs/*.json") {
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
	}
	if v, ok := s.Recall("image a"); ok {
		t.Errorf("a damaged file says %q", v)
	}
	wantEmpty(t, s, "tmp")
}

func glob(tb testing.TB, s *store.Store, pattern string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Dir(), pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("nothing is at %s: %v", pattern, err)
	}
	return paths
}

// setTime puts a time of use of some hours ago on an entry.
func setTime(tb testing.TB, s *store.Store, fp pipeline.Fingerprint, hours int) {
	tb.Helper()
	when := time.Now().Add(-time.Duration(hours) * time.Hour)
	for _, path := range glob(tb, s, "entries/"+string(fp)+"/*/manifest.json") {
		if err := os.Chtimes(path, when, when); err != nil {
			tb.Fatal(err)
		}
	}
}
