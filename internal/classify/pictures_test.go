package classify_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// tree is a folder with pictures, what is none, and links that lead around.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{
		"a.jpg", "B.PNG", "c/d.tiff", "c/e/f.webp", ".g.jpg", ".h/i.jpg", "notes.txt", "jpg", "k.gif", "b\xe4r.jpg", "c.jpg/l.jpg",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"c/loop": "..", "m.jpg": "a.jpg", "n.jpg": "nowhere", "o.jpg": "c", "self.jpg": "self.jpg"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func under(folder string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, folder+n)
	}
	return all
}

// What is named, and the pictures that it stands for.
func TestPictures(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	all := []string{"B.PNG", "a.jpg", "b\xe4r.jpg", "c/d.tiff", "c/e/f.webp", "c.jpg/l.jpg", "m.jpg", "n.jpg", "self.jpg"}
	for name, want := range map[string][]string{
		"":              all,
		"/":             all,
		"/c":            {"c/d.tiff", "c/e/f.webp"},
		"/c/":           {"c/d.tiff", "c/e/f.webp"},
		"/o.jpg":        {"o.jpg/d.tiff", "o.jpg/e/f.webp"}, // a link that is named is followed, and keeps its name
		"/.h":           {".h/i.jpg"},
		"/.g.jpg":       {".g.jpg"},
		"/notes.txt":    {"notes.txt"},
		"/nowhere":      {"nowhere"},
		"/*.txt":        {"notes.txt"},
		"/[ab].jpg":     {"a.jpg"},
		"/{a,x}.jpg":    {"a.jpg"},
		"/c/*":          append([]string{"c/d.tiff", "c/e/f.webp"}, under("c/loop/", all)...), // as a shell does it, and once
		"/c/**":         {"c/d.tiff", "c/e/f.webp"},
		"/**/*.{jpg,x}": {"a.jpg", "b\xe4r.jpg", "c.jpg/l.jpg", "m.jpg", "n.jpg", "self.jpg"},
		"/*.none":       {"*.none"},
		"/[":            {"["},
	} {
		found, err := classify.Pictures(t.Context(), &userfile.Reader{}, classify.Names{Arguments: []string{dir + name}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, p := range found {
			if p.Err != nil {
				t.Errorf("%s: %+v", name, p)
			}
			got = append(got, strings.TrimPrefix(p.Name, dir+"/"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A list has a name a line, or NUL behind each; what an editor leaves in it is no name. Its names are no patterns.
func TestPicturesOfList(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	for text, want := range map[string][]string{
		"a\nb":                       {"first", "a", "b"},
		"\ufeffa\r\n\r\n b \n":       {"first", "a", " b "},
		"*.jpg\n-\n" + dir + "/c\n":  {"first", "*.jpg", "-", dir + "/c/d.tiff", dir + "/c/e/f.webp"},
		"\x00a\nb\x00\x00c\r\n\x00d": {"first", "a\nb", "c\r\n", "d"},
	} {
		names := classify.Names{Arguments: []string{"first"}, List: write(t, "list", text), Null: strings.Contains(text, "\x00")}
		found, err := classify.Pictures(t.Context(), &userfile.Reader{}, names)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		var got []string
		for _, p := range found {
			got = append(got, p.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// What names no picture is refused, of a folder as that of one picture.
func TestPicturesRefused(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for name, c := range map[string]struct {
		names       classify.Names
		words, hint string
	}{
		"nothing":       {classify.Names{}, "no picture is named", "as in `dalirun classify cat.jpg`"},
		"NUL of what":   {classify.Names{Arguments: []string{"a"}, Null: true}, "--null is about a list", "--files-from"},
		"no list":       {classify.Names{List: "/nowhere/l", Written: "--files-from /nowhere/l"}, "--files-from /nowhere/l: no such file", "check the name"},
		"an empty list": {classify.Names{List: write(t, "l", "\n\n"), Written: "--files-from l"}, "--files-from l: it names no picture", "one name a line"},
		"stdin for two": {
			classify.Names{Arguments: []string{"a", "-"}, List: "-", Written: "--files-from -"},
			"--files-from - and the picture - are both to come from standard input", "as in --files-from list.txt",
		},
		"with NUL": {classify.Names{List: write(t, "l", "a\x00b\x00"), Written: "--files-from l"}, "its names end with NUL", "--null"},
	} {
		found, err := classify.Pictures(t.Context(), &userfile.Reader{}, c.names)
		if len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
		wantFault(t, err, pipeline.Usage, c.words, c.hint)
	}
	found, err := classify.Pictures(t.Context(), &userfile.Reader{}, classify.Names{Arguments: []string{empty, "b"}})
	if err != nil || len(found) != 2 || found[0].Name != empty || found[1] != (classify.Picture{Name: "b"}) {
		t.Fatalf("%v, %v", found, err)
	}
	wantFault(t, found[0].Err, pipeline.Usage, empty+": the folder holds no picture", ".jpg, ")
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	for _, names := range []classify.Names{{Arguments: []string{empty}}, {List: write(t, "l", "a")}} {
		if _, err := classify.Pictures(ctx, &userfile.Reader{}, names); !errors.Is(err, stopped) {
			t.Errorf("stopped: %v", err)
		}
	}
}
