package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

//go:generate go test . -count=1 -run ^TestDocs|^TestExitCodesOfREADME$|^TestPlantedFaultsPage$|^TestScripts$/^help$ -update

const docsDir = "../../docs"

// documented is the command tree as the documents show it: the same on each machine.
func documented() *cobra.Command {
	root := appIn(map[string]string{"HOME": "~"}, io.Discard, io.Discard).Command()
	root.DisableAutoGenTag = true
	root.InitDefaultHelpCmd()
	return root
}

// TestDocsOfCommands keeps docs/cli as the commands say it.
func TestDocsOfCommands(t *testing.T) {
	t.Parallel()
	made := t.TempDir()
	if err := doc.GenMarkdownTree(documented(), made); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(docsDir, "cli")
	if *update {
		if err := os.RemoveAll(kept); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(kept, os.DirFS(made)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(texts(t, kept), texts(t, made)); diff != "" {
		t.Errorf("docs/cli is not what `go generate ./internal/cli` writes (-kept +made):\n%s", diff)
	}
}

// TestDocsOfExitCodes keeps docs/exit-codes.md as ExitCodes says it.
func TestDocsOfExitCodes(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString("# Exit codes\n\n<!-- Written by `go generate ./internal/cli` from internal/cli/exit.go. -->\n\n" +
		"The numbers never change. An error is printed once, on stderr: what failed after how long, the last output, a hint,\n" +
		"the path of the full log. Stdout has the result alone: a reader that goes away\n" +
		"early, as `head` does, is no error; a full disk under it, or a stdout that is not open to be written to, is 3,\n" +
		"unless the work failed. A report of `e2e` that cannot be written is that too, and keeps nothing from stdout. One that a shell closed (`>&-`) is as `>/dev/null`: Go opens that in its place.\n\n| code | means | typically |\n|---:|---|---|\n")
	for _, c := range ExitCodes() {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Code, c.Means, c.Typical)
	}
	kept := filepath.Join(docsDir, "exit-codes.md")
	if *update {
		if err := os.WriteFile(kept, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), b.String()); diff != "" {
		t.Errorf("docs/exit-codes.md is not what `go generate ./internal/cli` writes (-kept +made):\n%s", diff)
	}
}

// TestExitCodesOfREADME keeps the table of the README as ExitCodes says it. Those of signals share a row there.
func TestExitCodesOfREADME(t *testing.T) {
	t.Parallel()
	path := filepath.Join(docsDir, "..", "README.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, made := string(data), string(data)
	for _, c := range ExitCodes() {
		if c.Code >= ExitSIGHUP {
			continue
		}
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \| .*$`, c.Code))
		if !row.MatchString(kept) {
			t.Errorf("the README has no row for %d", c.Code)
		}
		made = row.ReplaceAllLiteralString(made, fmt.Sprintf("| %d | %s: %s |", c.Code, c.Means, c.Typical))
	}
	if *update {
		if err := os.WriteFile(path, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(kept, made); diff != "" {
		t.Errorf("the README's table is not what `go generate ./internal/cli` writes (-kept +made):\n%s", diff)
	}
}

// TestEachCommandHasExamples holds for those that are run, not for those that only hold others.
func TestEachCommandHasExamples(t *testing.T) {
	t.Parallel()
	for _, c := range documented().Commands() {
		if c.Name() == "help" {
			continue
		}
		if c.Short == "" || !strings.Contains(c.Example, "dalirun "+c.Name()) {
			t.Errorf("%s has no short text, or no example that runs it: %q", c.CommandPath(), c.Example)
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			if line != "" && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the line %q of its examples is not indented by two", c.CommandPath(), line)
			}
		}
	}
}

func texts(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(data)
	}
	return all
}
