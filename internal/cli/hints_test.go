package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What a user is told to do can be done with the binary alone: no text of the program names a task, a script or a page of a checkout.
func TestTextsNeedNoCheckout(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	seen := 0
	for _, root := range []string{"../../cmd", "../../internal", "../../steps", "../../pipeline", "../../triton"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Error(err)
				}
				seen++
				for _, of := range []string{"go tool ", "go run ", "scripts/", "docs/", "CONTRIBUTING", "README", "Taskfile", " checkout"} {
					if strings.Contains(text, of) {
						t.Errorf("%s: %q is nothing that the binary brings", files.Position(literal.Pos()), text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 1000 {
		t.Errorf("only %d texts were seen", seen)
	}
}
