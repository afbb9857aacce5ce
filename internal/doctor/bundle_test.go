package doctor

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A log of any size is read from its end, a link not at all.
func TestTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	line := bytes.Repeat([]byte("x"), 99)
	if err := os.WriteFile(long, bytes.Repeat(append(line, '\n'), 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	text, size, err := tail(long)
	if err != nil || size != 2_000_000 || len(text) > bundledTail || len(text) < bundledTail-100 || len(text)%100 != 0 {
		t.Errorf("%d of %d bytes, %v", len(text), size, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tail(link); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("a link: %v", err)
	}
	if _, _, err := tail(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
