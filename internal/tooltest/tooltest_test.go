package tooltest_test

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/tooltest"
)

// TestOnce checks that no two recordings are the same, that none is empty, and that none is kept anywhere else.
func TestOnce(t *testing.T) {
	t.Parallel()
	seen := map[[sha256.Size]byte]string{}
	for _, name := range tooltest.Names() {
		text := tooltest.Output(name)
		sum := sha256.Sum256([]byte(text))
		if text == "" || seen[sum] != "" {
			t.Errorf("%s is empty, or the same as %q", name, seen[sum])
		}
		seen[sum] = name
	}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || !strings.Contains(filepath.ToSlash(file), "/testdata/") || strings.Contains(filepath.ToSlash(file), "/tooltest/") {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if name := seen[sha256.Sum256(data)]; name != "" {
			t.Errorf("%s is %s once more", file, name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLayers checks that the compressed recordings are whole.
func TestLayers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"trtexec-10.6-layers-fp16.json", "trtexec-10.6-layers-fp32.json"} {
		text := tooltest.Output(name)
		if lines := strings.Count(text, "\n"); !json.Valid([]byte(text)) || lines < 4400 {
			t.Errorf("%s has %d lines, or is no JSON", name, lines)
		}
	}
}

// TestTrtexecHelp checks that it begins and ends as trtexec's does, and holds nothing of the command that was refused.
func TestTrtexecHelp(t *testing.T) {
	t.Parallel()
	help := tooltest.TrtexecHelp()
	if !strings.HasPrefix(help, "=== Model Options ===\n") || !strings.HasSuffix(help, "Print this message\n") || strings.Contains(help, "--buildOnly") {
		t.Errorf("it is %q", help)
	}
}
