package picture_test

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/picture"
)

// docRow is a row of the table in docs/pictures.md.
type docRow struct {
	format, kind     string
	classify, verify string
	patterns         []string // of names in testdata/kinds
}

func docRows(t *testing.T) []docRow {
	t.Helper()
	var rows []docRow
	for line := range strings.Lines(string(readFile(t, "../../docs/pictures.md"))) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 5 || strings.Contains(line, "| format |") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		r := docRow{format: cells[0], kind: cells[1], classify: cells[2], verify: cells[3]}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[4], -1) {
			r.patterns = append(r.patterns, name[1])
		}
		rows = append(rows, r)
	}
	return rows
}

// TestDocumentedKinds tries each row of docs/pictures.md with the pictures that it names; each picture is named once.
func TestDocumentedKinds(t *testing.T) {
	t.Parallel()
	rows := docRows(t)
	if len(rows) < 25 {
		t.Fatalf("the table has only %d rows", len(rows))
	}
	tried := map[string]bool{}
	for _, name := range kinds(t) {
		var row *docRow
		for i := range rows {
			for _, pattern := range rows[i].patterns {
				if ok, err := path.Match(pattern, name); err != nil || !ok {
					continue
				}
				if row != nil {
					t.Errorf("%s is named twice", name)
				}
				row = &rows[i]
				tried[row.kind+pattern] = true
			}
		}
		if row == nil {
			t.Errorf("%s is in no row", name)
			continue
		}
		info, err := picture.Check(readFile(t, "testdata/kinds/"+name), picture.DefaultLimits())
		classify, verify := "sent", "verified"
		switch {
		case err != nil:
			classify, verify = "refused", "2"
		case info.Unverifiable != "":
			verify = "2"
		}
		if classify != row.classify || verify != row.verify || err == nil && string(info.Format) != row.format {
			t.Errorf("%s: %s, %s, %s (%v, %q); the table says %s, %s, %s", name, info.Format, classify, verify, err, info.Unverifiable, row.format, row.classify, row.verify)
		}
	}
	for _, r := range rows {
		for _, pattern := range r.patterns {
			if !tried[r.kind+pattern] {
				t.Errorf("no picture is named %s", pattern)
			}
		}
		if len(r.patterns) == 0 {
			t.Errorf("%q is tried with nothing", r.kind)
		}
	}
}

// TestDocumentedGPU checks that the page of pictures leads to what is not held on a GPU.
func TestDocumentedGPU(t *testing.T) {
	t.Parallel()
	page, gpu := string(readFile(t, "../../docs/pictures.md")), string(readFile(t, "../../docs/gpu.md"))
	if !strings.Contains(page, "](gpu.md#pictures)") || !strings.Contains(gpu, "\n### Pictures\n") {
		t.Error("docs/pictures.md does not lead to a section of docs/gpu.md")
	}
}

// TestDocumentedFormats keeps the sentence of the README as the code has it.
func TestDocumentedFormats(t *testing.T) {
	t.Parallel()
	want := "Pictures are " + picture.Formats("or") + ", decoded as they are stored, with no orientation applied: [docs/pictures.md](docs/pictures.md)."
	if !strings.Contains(string(readFile(t, "../../README.md")), want) {
		t.Errorf("README.md lacks %q", want)
	}
}

// TestDocumentedLimits keeps the figures of docs/pictures.md as the code has them.
func TestDocumentedLimits(t *testing.T) {
	t.Parallel()
	l := picture.DefaultLimits()
	want := fmt.Sprintf("A picture has at most %s, %d pixels, and %d pixels on its longer side.", bytesize.Format(l.MaxBytes), l.MaxPixels, l.MaxSide)
	text := string(readFile(t, "../../docs/pictures.md"))
	scans := fmt.Sprintf("The scans of a JPEG have at most\n%d pixels together", 30*l.MaxPixels)
	for _, sentence := range []string{want, scans} {
		if !strings.Contains(text, sentence) {
			t.Errorf("docs/pictures.md lacks %q", sentence)
		}
	}
	for f := range strings.SplitSeq(strings.ReplaceAll(picture.Formats("or"), " or ", ", "), ", ") {
		if !strings.Contains(text, "| "+f+" |") {
			t.Errorf("docs/pictures.md has no row of %s", f)
		}
	}
}

// docs/pictures.md names the extensions that pictures of a folder have, and names in capitals count.
func TestDocumentedExtensions(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(string(readFile(t, "../../docs/pictures.md")), "\n## Names\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var named []string
	for _, m := range regexp.MustCompile("`(\\.[^`]+)`").FindAllStringSubmatch(section, -1) {
		named = append(named, m[1])
	}
	if diff := cmp.Diff(picture.Extensions(), named); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]bool{"cat.JPG": true, "a.b/cat.tiff": true, "cat": false, "cat.gif": false, "jpg": false} {
		if picture.HasExtension(name) != want {
			t.Errorf("%s is one: %t", name, !want)
		}
	}
}
