package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/mounttest"
)

// Of reports that a full disk has no room for nothing is left, and what a link names there goes without it.
func TestFilesOnFullDisk(t *testing.T) {
	t.Parallel()
	mounttest.OnDisk(t, "size=64k", onFullDisk)
}

func onFullDisk(t *testing.T, dir string) {
	t.Helper()
	link := filepath.Join(dir, "link.html")
	if err := os.Symlink("page.html", link); err != nil {
		t.Fatal(err)
	}
	f := Files{JUnit: filepath.Join(dir, "report.xml"), HTML: link}
	if err := f.Make(map[string]string{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for what, err := range map[string]error{
		"a run": f.Write(collect(&Collector{}, start())), "a bench": Files{HTML: link}.WriteBench(bench.Result{}, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%s: %v", what, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[0].Name() != "large" || left[1].Name() != "link.html" {
		t.Errorf("left: %v, %v", left, err)
	}
}
