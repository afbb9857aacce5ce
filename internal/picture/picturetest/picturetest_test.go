package picturetest

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryFileHasARow holds the table against the folder.
func TestEveryFileHasARow(t *testing.T) {
	t.Parallel()
	entries, err := fs.ReadDir(files, "testdata")
	if err != nil {
		t.Fatal(err)
	}
	var present, named []string
	for _, e := range entries {
		if e.Name() != "README.md" {
			present = append(present, e.Name())
		}
	}
	for _, r := range Table() {
		named = append(named, r.File)
		if len(Data(t, r.File)) == 0 {
			t.Errorf("%s is empty", r.File)
		}
	}
	slices.Sort(named)
	if diff := cmp.Diff(present, named); diff != "" {
		t.Errorf("files and rows (-files +rows):\n%s", diff)
	}
}
