//go:build linux || darwin

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLeaseFolder takes the first folder in which everybody may make files and nobody else may replace them.
func TestLeaseFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	roots, lax, tmp, link := made("root's", 0o755), made("lax", 0o777), made("tmp", 0o777|os.ModeSticky), filepath.Join(dir, "link")
	if err := os.Symlink(tmp, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		candidates []string
		want       string
	}{
		{[]string{tmp, roots}, tmp},
		{[]string{roots, tmp}, tmp},
		{[]string{lax, tmp}, tmp},
		{[]string{filepath.Join(dir, "none"), link}, link}, // as /tmp of macOS is one
	} {
		if got, err := leaseFolder(c.candidates...); got != c.want || err != nil {
			t.Errorf("of %q: %q, %v", c.candidates, got, err)
		}
	}
	if got, err := leaseFolder(roots, lax); err == nil || !strings.Contains(err.Error(), roots+" and "+lax) {
		t.Errorf("of none: %q, %v", got, err)
	}
}
