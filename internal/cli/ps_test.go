package cli

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
)

// statesIn are the values of a file's constants of the type State.
func statesIn(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "State" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value) //nolint:errcheck,forcetypeassert // a test may panic
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, text)
		return true
	})
	return states
}

// The help of ps has each word that ps can print, with what it means.
func TestHelpOfPSHasItsWords(t *testing.T) {
	t.Parallel()
	var help string
	for _, c := range documented().Commands() {
		if c.Name() == "ps" {
			help = c.Long
		}
	}
	owners, healths := statesIn(t, "../owner/verdict.go"), statesIn(t, "../serving/health.go")
	if len(owners) != len(owner.States()) || len(healths) != len(serving.States()) {
		t.Errorf("%d and %d states are told of, and there are %q and %q", len(owner.States()), len(serving.States()), owners, healths)
	}
	for _, word := range slices.Concat(owners, healths) {
		if !regexp.MustCompile(`(?m)^ +` + word + ` +\S`).MatchString(help) {
			t.Errorf("OWNER or HEALTH can be %q, and the help does not say what that is", word)
		}
		now := time.Now()
		rows := []serving.Process{{Owner: word, Created: now, Health: &serving.Health{State: serving.State(word)}}, {Running: true, Created: now}, {Created: now, Health: &serving.Health{State: serving.Starting}}}
		var b bytes.Buffer
		if err := serving.WriteProcesses(&b, rows, now); err != nil {
			t.Fatal(err)
		}
		table, _, _ := strings.Cut(b.String(), "\n\n")
		for _, printed := range regexp.MustCompile(`[a-z]{2,}( healthy)?`).FindAllString(table, -1) {
			if !strings.Contains(help, printed) {
				t.Errorf("%q is printed, and the help does not have it", printed)
			}
		}
	}
}
