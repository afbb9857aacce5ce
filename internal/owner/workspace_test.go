package owner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/owner"
)

func TestCheckWorkspace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		folder string
		files  []string // folders end in a slash, links in an at
		holds  string   // what is not dalirun's; empty for a workspace
	}{
		"not there":            {"w", nil, ""},
		"empty":                {"w", []string{"./"}, ""},
		"marked":               {"w", []string{"WORKSPACE.TAG", "anything"}, ""},
		"of an older version":  {"w", []string{"runs/20261122T201523Z-99c849/", "server.json", "serve.lock", "model_repository@"}, ""},
		"whose run lives":      {"w", []string{"runs/r1/lock"}, ""},
		"before its first run": {"w", []string{"runs/"}, ""},
		"by its name":          {".dalirun", []string{"notes.txt"}, ""},
		"a user's models":      {"w", []string{"model_repository/mine/"}, "model_repository"},
		"a project":            {"w", []string{"go.mod", "runs/20261122T201523Z-99c849/"}, "go.mod"},
		"hidden things":        {"w", []string{".git/"}, ".git"},
		"others' runs":         {"w", []string{"runs/train1/weights.pt"}, "runs/train1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), c.folder)
			for _, file := range c.files {
				path := filepath.Join(dir, file)
				err := os.MkdirAll(filepath.Dir(path), 0o700)
				if strings.HasSuffix(file, "/") {
					err = errors.Join(err, os.MkdirAll(path, 0o700))
				} else if link, ok := strings.CutSuffix(path, "@"); ok {
					err = errors.Join(err, os.Symlink(t.TempDir(), link))
				} else {
					err = errors.Join(err, os.WriteFile(path, nil, 0o600))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			err := owner.CheckWorkspace(dir)
			if c.holds == "" {
				if err != nil {
					t.Error(err)
				}
				if err := errors.Join(owner.MakeWorkspace(dir), owner.MakeWorkspace(dir), os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), owner.CheckWorkspace(dir)); err != nil {
					t.Errorf("once it was made: %v", err)
				}
				return
			}
			if !errors.Is(err, owner.ErrNotWorkspace) || !strings.HasSuffix(err.Error(), ": it holds "+c.holds) {
				t.Errorf("got %v", err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := owner.CheckWorkspace(file); err == nil || errors.Is(err, owner.ErrNotWorkspace) {
		t.Errorf("a file: %v", err)
	}
}
