package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// edit changes content at path and puts the old time back, as a failing disk or a careful forger would.
func edit(tb testing.TB, path, content string) {
	tb.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, 0o644)
	}
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err == nil {
		err = os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	if err == nil {
		err = os.Chmod(path, info.Mode())
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// overwrite replaces the content at path, as somebody may who owns it.
func overwrite(tb testing.TB, path, content string) {
	tb.Helper()
	must(tb, os.Chmod(path, 0o644))
	must(tb, os.WriteFile(path, []byte(content), 0o600))
	touch(tb, path)
}

// touch sets the time that any change sets: on a quick disk it may come within the same tick of the kernel's clock as the commit.
func touch(tb testing.TB, path string) {
	tb.Helper()
	must(tb, os.Chtimes(path, time.Now(), time.Now().Add(time.Second)))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string) // dir is the entry's
		word   string                         // of the error
		hidden bool                           // only Verify can see it
	}{
		{"truncated", func(t *testing.T, dir string) { t.Helper(); overwrite(t, dir+"/files/repo/m/1/model", "wei") }, "repo/m/1/model: it has 3 bytes instead of 6", false},
		{"longer", func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, dir+"/files/one", "longer")
		}, "one: it has 6 bytes", false},
		{"removed", func(t *testing.T, dir string) { t.Helper(); must(t, os.Remove(dir+"/files/repo/m/1/model")) }, "repo/m/1", false},
		{"removed file", func(t *testing.T, dir string) { t.Helper(); must(t, os.Remove(dir+"/files/one")) }, "one is missing", false},
		{"removed folder", func(t *testing.T, dir string) { t.Helper(); must(t, os.RemoveAll(dir+"/files/repo")) }, "repo is missing", false},
		{"added", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.WriteFile(dir+"/files/repo/m/more", nil, 0o600))
		}, "repo/m: it was changed", false},
		{"same size", func(t *testing.T, dir string) {
			t.Helper()
			overwrite(t, dir+"/files/one", "eno")
		}, "one: it was changed", false},
		{"executable", func(t *testing.T, dir string) { t.Helper(); must(t, os.Chmod(dir+"/files/one", 0o555)) }, "executable", false},
		{"link", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Rename(dir+"/files/one", dir+"/files/two"))
			must(t, os.Symlink("two", dir+"/files/one"))
		}, "another kind", false},
		{"bit rot", func(t *testing.T, dir string) { t.Helper(); edit(t, dir+"/files/repo/m/1/model", "weighs") }, "repo/m/1/model: its content was changed", true},
		{"no manifest", func(t *testing.T, dir string) { t.Helper(); must(t, os.Remove(dir+"/manifest.json")) }, "manifest.json is missing", false},
		{"empty manifest", func(t *testing.T, dir string) { t.Helper(); must(t, os.Truncate(dir+"/manifest.json", 0)) }, "manifest.json", false},
		{"edited manifest", func(t *testing.T, dir string) {
			t.Helper()
			data, err := os.ReadFile(dir + "/manifest.json")
			must(t, err)
			edit(t, dir+"/manifest.json", strings.Replace(string(data), `"size":3`, `"size":4`, 1))
		}, "manifest.json: its checksum is wrong", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			content := tree{"repo/m/1/model": "weight", "repo/m/config": "c", "one": "one"}
			commit(t, s, "f", content, "one", "repo")
			dir := glob(t, s, "entries/f/*")[0]
			c.damage(t, dir)

			e, err := s.Get("f")
			if c.hidden {
				if err != nil {
					t.Fatal(err)
				}
				err = e.Verify()
				closeEntry(t, e)
			}
			wantErr(t, err, pipeline.ErrDamaged, c.word)

			must(t, s.Drop("f"))
			_, err = s.Get("f")
			wantErr(t, err, pipeline.ErrMiss)
			wantEmpty(t, s, "tmp", "entries", "locks")
			commit(t, s, "f", content, "one", "repo")
			e = get(t, s, "f")
			must(t, e.Verify())
			closeEntry(t, e)
		})
	}
}

func TestVerifyNamesTheFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(dir string) error
		word   string
	}{
		"first missing": {func(dir string) error { return os.Remove(dir + "/a") }, "repo/a: it is missing"},
		"last missing":  {func(dir string) error { return os.Remove(dir + "/z") }, "repo/z: it is missing"},
		"one more":      {func(dir string) error { return os.WriteFile(dir+"/m", nil, 0o600) }, "repo/m: it does not belong there"},
		"a last more":   {func(dir string) error { return os.WriteFile(dir+"/zz", nil, 0o600) }, "repo/zz: it does not belong there"},
		"a folder":      {func(dir string) error { return os.Remove(dir + "/a") }, "repo/a"},
		"executable":    {func(dir string) error { return os.Chmod(dir+"/z", 0o555) }, "repo/z: its executable bit"},
		"another kind": {func(dir string) error {
			if err := os.Remove(dir + "/z"); err != nil {
				return err
			}
			return os.Mkdir(dir+"/z", 0o700)
		}, "repo/z: it is another kind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			commit(t, s, "f", tree{"repo/a": "1", "repo/z": "2"}, "repo")
			e := get(t, s, "f")
			defer closeEntry(t, e)
			must(t, e.Verify())
			must(t, c.damage(e.Values()["repo"].Path))
			wantErr(t, e.Verify(), pipeline.ErrDamaged, c.word)
		})
	}
}

func TestDropLeavesWhatIsWhole(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.Drop("f"))
	commit(t, s, "f", tree{"a": "x"}, "a")
	must(t, s.Drop("f"))
	closeEntry(t, get(t, s, "f"))
}

func TestDropWhileRead(t *testing.T) {
	t.Parallel()
	s := open(t)
	values := commit(t, s, "f", tree{"a": "old", "b": "b"}, "a", "b")
	reader := get(t, s, "f")
	edit(t, values["a"].Path, "bad")
	must(t, s.Drop("f"))
	_, err := s.Get("f")
	wantErr(t, err, pipeline.ErrMiss)
	if _, err := os.Stat(values["b"].Path); err != nil {
		t.Errorf("the reader's path is no longer valid: %v", err)
	}
	// A second entry lives beside it, and is not taken for the dropped one.
	commit(t, s, "f", tree{"a": "new", "b": "b"}, "a", "b")
	must(t, s.Drop("f"))
	closeEntry(t, get(t, s, "f"))
	closeEntry(t, reader)
	must(t, s.Sweep(t.Context()))
	if n := len(glob(t, s, "entries/f/*")); n != 1 {
		t.Errorf("%d generations are left", n)
	}
}

func TestOtherVersionIsAMiss(t *testing.T) {
	t.Parallel()
	s := open(t)
	commit(t, s, "f", tree{"a": "x"}, "a")
	path := glob(t, s, "entries/f/*/manifest.json")[0]
	data, err := os.ReadFile(path)
	must(t, err)
	edit(t, path, strings.Replace(string(data), `"version":1`, `"version":2`, 1))
	_, err = s.Get("f")
	wantErr(t, err, pipeline.ErrMiss)
	must(t, s.Drop("f"))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Drop took away what another version can read: %v", err)
	}
}

func TestEntryOfAnotherFingerprint(t *testing.T) {
	t.Parallel()
	s := open(t)
	commit(t, s, "f", tree{"a": "x"}, "a")
	must(t, os.Rename(filepath.Join(s.Dir(), "entries", "f"), filepath.Join(s.Dir(), "entries", "g")))
	_, err := s.Get("g")
	wantErr(t, err, pipeline.ErrDamaged, "another entry")
}

// TestManifestOfAnything: whatever a manifest holds, it is an entry, a miss or damage.
func TestManifestOfAnything(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty":         "",
		"zeros":         string(make([]byte, 4096)),
		"null":          "null",
		"a list":        "[]",
		"no entry":      `{"version":1}`,
		"null entry":    `{"version":1,"sha256":"74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b","entry":null}`,
		"no version":    `{"sha256":"","entry":{}}`,
		"long version":  `{"version":1e99}`,
		"text version":  `{"version":"1"}`,
		"deep":          strings.Repeat("[", 100000),
		"outside":       string(store.Seal([]byte(`{"fingerprint":"f","outputs":[{"name":"..","nodes":[{"path":".."}]}]}`))),
		"file outside":  string(store.Seal([]byte(`{"fingerprint":"f","outputs":[{"name":"a","nodes":[{"path":"a"},{"path":"a/../../b"}]}]}`))),
		"absolute":      string(store.Seal([]byte(`{"fingerprint":"f","outputs":[{"name":"/etc","nodes":[{"path":"/etc"}]}]}`))),
		"without files": string(store.Seal([]byte(`{"fingerprint":"f","outputs":[{"name":"a"}]}`))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			commit(t, s, "f", tree{"a": "x"}, "a")
			edit(t, glob(t, s, "entries/f/*/manifest.json")[0], content)
			if _, err := s.Get("f"); !errors.Is(err, pipeline.ErrMiss) && !errors.Is(err, pipeline.ErrDamaged) {
				t.Errorf("neither a miss nor damage: %v", err)
			}
			must(t, s.Drop("f"))
			commit(t, s, "f", tree{"a": "x"}, "a")
			closeEntry(t, get(t, s, "f"))
		})
	}
}
