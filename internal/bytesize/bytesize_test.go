package bytesize_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bytesize"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[uint64]string{
		0: "0 B", 512: "512 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 102_540_417: "97.79 MiB", 1<<20 - 1: "1024 KiB",
		1 << 30: "1 GiB", 85_520_809_984: "79.65 GiB", 1 << 40: "1 TiB", math.MaxUint64: "16 EiB",
	} {
		if got := bytesize.Format(bytes); got != want {
			t.Errorf("%d bytes: got %q, want %q", bytes, got, want)
		}
	}
}

// A number alone is no size, and neither is less than nothing.
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "80GiB": 80 << 30, "20g": 20 << 30, "512 M": 512 << 20, "80b": 80, "1.5k": 1536} {
		if got, err := bytesize.Parse(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"80", "", "-1GiB", "much", "GiB", "80.5", "1x"} {
		if got, err := bytesize.Parse(text); !errors.Is(err, bytesize.ErrNoSize) || got != 0 {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

// What was seen once is told with two digits.
func TestAbout(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{1_007_934_650: "960 MiB", 1_335_521_097: "1.2 GiB", 2_343_455_747: "2.2 GiB"} {
		if got := bytesize.About(bytes); got != want {
			t.Errorf("%d bytes: got %q, want %q", bytes, got, want)
		}
	}
}

// root is that of the module.
const root = "../.."

var (
	ownUnit     = regexp.MustCompile(`%[-+# 0]*[\d.]*[a-zA-Z] ?([KMGTPE]i?|k)B\b`)
	decimalUnit = regexp.MustCompile(`[\d.] [kKMGTPE]B\b`)
	formatter   = regexp.MustCompile(`^(units\.\w*Size\w*|humanize\.I?Bytes\w*)$`)
)

// files calls do with each file of the module that has an extension. Package integration imitates what others print, tools are none of
// the program's, and a decision is told in the words of its time.
func files(t *testing.T, ext string, do func(path string)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "integration" || d.Name() == "tools" || d.Name() == "adr" || path != root && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ext) && !strings.HasSuffix(path, "_test.go"):
			seen++
			do(path)
		}
		return nil
	})
	if err != nil || seen < 5 {
		t.Fatalf("%d files of %s, %v", seen, ext, err)
	}
}

// TestOneFormatter checks that nothing but this package formats a size in a unit, and that no message has a decimal one.
func TestOneFormatter(t *testing.T) {
	t.Parallel()
	files(t, ".go", func(path string) {
		if filepath.Base(path) == "bytesize.go" {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			switch n := node.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && formatter.MatchString(x.Name+"."+n.Sel.Name) {
					t.Errorf("%s: bytesize.Format is in place of %s.%s", set.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && (ownUnit.MatchString(text) || decimalUnit.MatchString(text)) {
					t.Errorf("%s: bytesize.Format writes sizes, and in binary units: %s", set.Position(n.Pos()), n.Value)
				}
			}
		}
	})
}

// TestDocs checks that the docs have the units of the program.
func TestDocs(t *testing.T) {
	t.Parallel()
	files(t, ".md", func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := decimalUnit.FindString(line); m != "" {
				t.Errorf("%s:%d: a size in a decimal unit, %q: %s", path, i+1, m, line)
			}
		}
	})
}
