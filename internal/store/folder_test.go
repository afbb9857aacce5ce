package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/store"
)

func TestCheckFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	if err := store.CheckFolder(dir); err != nil {
		t.Errorf("not there: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "entries"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := store.CheckFolder(dir); err != nil {
		t.Errorf("half made: %v", err)
	}
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.CheckFolder(dir); !errors.Is(err, store.ErrNotCache) || !strings.HasSuffix(err.Error(), ": it holds main.go") {
		t.Errorf("a project: %v", err)
	}
	tag := filepath.Join(dir, "CACHEDIR.TAG")
	if err := os.WriteFile(tag, []byte("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.CheckFolder(dir); !errors.Is(err, store.ErrNotCache) {
		t.Errorf("another program's cache: %v", err)
	}
	if err := os.Remove(tag); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := store.CheckFolder(dir); err != nil {
		t.Errorf("ours: %v", err)
	}
	if err := store.CheckFolder(file); err == nil || errors.Is(err, store.ErrNotCache) {
		t.Errorf("a file: %v", err)
	}
}
