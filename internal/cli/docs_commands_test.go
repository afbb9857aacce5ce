package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestDocumentedCommandsExist checks that the commands, flags and variables that a user copies from the documents are there.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(docsDir, "ci", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("workflows: %v, %v", files, err)
	}
	for _, file := range append(files, filepath.Join(docsDir, "gpu.md"), filepath.Join(docsDir, "..", "README.md")) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, root := string(data), documented()
			commands := regexp.MustCompile("dalirun ([a-z][a-z0-9]+)(?:[ \"][^`\n]*)?").FindAllStringSubmatch(text, -1)
			used := 0
			for _, m := range commands {
				c, _, err := root.Find([]string{m[1]})
				if err != nil || c == root {
					continue // a word of a sentence
				}
				used++
				for _, flag := range regexp.MustCompile(` --([a-z][a-z-]+)`).FindAllStringSubmatch(m[0], -1) {
					if c.Flags().Lookup(flag[1]) == nil {
						t.Errorf("%q: %s has no flag --%s", m[0], c.CommandPath(), flag[1])
					}
				}
			}
			if used == 0 {
				t.Error("no command of dalirun is found: the test looks for the wrong thing")
			}
			for _, m := range regexp.MustCompile("`--([a-z][a-z-]+)[^`=]*`").FindAllStringSubmatch(text, -1) {
				if m[1] != "help" && !anyFlag(root, func(name string) bool { return name == m[1] }) {
					t.Errorf("%s: no command has the flag --%s", m[0], m[1])
				}
			}
			for _, variable := range regexp.MustCompile(`\bDALIRUN_[A-Z_]+\b`).FindAllString(text, -1) {
				if !anyFlag(root, func(name string) bool { return envName(name) == variable }) {
					t.Errorf("%s sets no flag", variable)
				}
			}
		})
	}
}

// anyFlag says whether a flag of any command is meant.
func anyFlag(root *cobra.Command, meant func(string) bool) bool {
	found := false
	for _, c := range root.Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) { found = found || meant(f.Name) })
	}
	return found
}
