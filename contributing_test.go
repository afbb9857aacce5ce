package dalirun_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMapOfPackages holds CONTRIBUTING's map against the folders that have Go code, but for tests and tools.
func TestMapOfPackages(t *testing.T) {
	t.Parallel()
	var mapped []string
	for _, row := range rows(t, "The map") {
		mapped = append(mapped, quoted(row[0])...)
	}
	code := map[string]bool{"assets/": true, "model_repository/": true} // these hold no Go code
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"integration", "tools", "testdata"}, d.Name()) || isHidden(path)):
			return fs.SkipDir
		case filepath.Ext(path) == ".go" && filepath.Dir(path) != ".":
			code[filepath.ToSlash(filepath.Dir(path))+"/"] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(mapped)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(code)), mapped); diff != "" {
		t.Errorf("CONTRIBUTING.md's map (-folders +map):\n%s", diff)
	}
}

// TestWhereItIsDecided looks for each name of CONTRIBUTING's table in the files of its row.
func TestWhereItIsDecided(t *testing.T) {
	t.Parallel()
	for _, row := range rows(t, "Where is it decided") {
		if len(row) != 3 || len(quoted(row[1])) == 0 || len(quoted(row[2])) == 0 {
			t.Errorf("not a question, a name and a file: %q", row)
			continue
		}
		var code strings.Builder
		for _, name := range quoted(row[2]) {
			files := []string{name}
			if strings.HasSuffix(name, "/") {
				files, _ = filepath.Glob(name + "*.go") // the pattern is well formed
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Errorf("%s: %v", row[0], err)
				}
				code.Write(data)
			}
		}
		for _, name := range quoted(row[1]) {
			declared := regexp.MustCompile(`(?m)^(?:(?:func (?:\([^)]+\) )?|type |const |var )` + name + `\b|\t` + name + ` =)`)
			if !declared.MatchString(code.String()) {
				t.Errorf("%s: %s does not declare %s", row[0], row[2], name)
			}
		}
	}
}

// TestStepsAreListed looks for each step's ID among CONTRIBUTING's steps.
func TestStepsAreListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("steps/steps.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "\nSteps, in order: ")
	list, _, _ = strings.Cut(list, "\n\n")
	ids := regexp.MustCompile(`pipeline\.ID = "([^"]+)"`).FindAllStringSubmatch(string(code), -1)
	if len(ids) == 0 {
		t.Fatal("steps/steps.go has no IDs")
	}
	for _, id := range ids {
		if !slices.Contains(quoted(list), id[1]) {
			t.Errorf("the steps lack %s", id[1])
		}
	}
}

// rows are the cells of the tables in a section of CONTRIBUTING.md, without their heads.
func rows(t *testing.T, section string) [][]string {
	t.Helper()
	data, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(data), "\n## "+section+"\n")
	if !found {
		t.Fatalf("CONTRIBUTING.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	_, text, found = strings.Cut(text, "|---|")
	var all [][]string
	for line := range strings.Lines(text) {
		if line, isRow := strings.CutPrefix(strings.TrimSpace(line), "| "); isRow {
			all = append(all, strings.Split(strings.TrimSuffix(line, " |"), " | "))
		}
	}
	if !found || len(all) == 0 {
		t.Fatalf("the section %q of CONTRIBUTING.md has no table", section)
	}
	return all
}

// quoted are the words that stand in backticks.
func quoted(text string) []string {
	var words []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

func isHidden(path string) bool { return path != "." && strings.HasPrefix(filepath.Base(path), ".") }
