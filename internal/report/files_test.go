package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/pipeline"
)

// The files are there and empty before a run, and have both reports after it.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := Files{JUnit: filepath.Join(dir, "report.xml"), HTML: filepath.Join(dir, "report.html")}
	if err := os.WriteFile(f.JUnit, []byte("of an older run"), 0o600); err != nil {
		t.Fatal(err)
	}
	reads := map[string]string{"--image": filepath.Join(dir, "none.jpg")}
	if err := f.Make(reads); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{f.JUnit, f.HTML} {
		if about, err := os.Stat(name); err != nil || about.Size() != 0 {
			t.Errorf("%s: %v, %v", name, about, err)
		}
	}
	if err := f.Write(collect(&Collector{}, start())); err != nil {
		t.Fatal(err)
	}
	for name, has := range map[string]string{f.JUnit: "<testsuites", f.HTML: "<html"} {
		if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), has) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if err := errors.Join((Files{}).Make(reads), (Files{}).Write(Report{})); err != nil || len(reads) != 1 {
		t.Errorf("no files: %v, and the run reads %v", err, reads)
	}
}

// A file that cannot be written, or that something else is, is told of; nothing is left of those that were made.
func TestFilesRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	picture := at("mine.jpg")
	if err := os.WriteFile(picture, []byte("a picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files Files
		err   string
		hint  string
	}{
		"no folder":      {Files{JUnit: at("nowhere/report.xml")}, "write the report: open ", "name a file in a folder that exists"},
		"a folder":       {Files{JUnit: at("first.xml"), HTML: dir}, "write the report: open ", "name a file, not a folder"},
		"both":           {Files{JUnit: at("new.txt"), HTML: at("new.txt")}, "--junit and --html are the same file: ", "name another file with --html"},
		"what it reads":  {Files{HTML: at("./mine.jpg")}, "--image and --html are the same file: ", "name another file with --html"},
		"devices are ok": {Files{JUnit: os.DevNull, HTML: os.DevNull}, "", ""},
	} {
		err := c.files.Make(map[string]string{"--image": picture})
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if ok != (c.err != "") || ok && (fault.Kind != pipeline.Usage || !strings.HasPrefix(fault.Error(), c.err) || fault.Hint != c.hint) {
			t.Errorf("%s: %+v", name, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
	if text, err := os.ReadFile(picture); string(text) != "a picture" {
		t.Errorf("the picture has %q, %v", text, err)
	}
	if err := (Files{HTML: "/dev/full"}).Write(Report{}); err == nil || !strings.HasPrefix(err.Error(), "write the report /dev/full: ") {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Errorf("the device is gone: %v", err)
	}
	if err := (Files{HTML: dir}).Write(Report{}); err == nil {
		t.Error("a folder: no error")
	}
}
