package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/config"
)

// TestDocumentedCommandsExist checks that what a user copies from the documents is there: commands with their arguments, flags and
// values, variables, and the project's tasks.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(docsDir, "ci", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("workflows: %v, %v", files, err)
	}
	top := filepath.Join(docsDir, "..")
	taskfile, err := os.ReadFile(filepath.Join(top, "Taskfile.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, filepath.Join(docsDir, "gpu.md"), filepath.Join(docsDir, "serving.md"), filepath.Join(docsDir, "lock.md"), filepath.Join(top, "README.md")) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code := snippets(filepath.Ext(file), string(data))
			if len(commandsIn(code)) == 0 {
				t.Error("no command of dalirun is found: the test looks for the wrong thing")
			}
			for _, wrong := range wrongCode(code, string(taskfile)) {
				t.Error(wrong)
			}
		})
	}
}

// TestWrongCommandsAreFound is the negative control of the test above.
func TestWrongCommandsAreFound(t *testing.T) {
	t.Parallel()
	const tasks = "tasks:\n  build:\n    cmds: []\n"
	for text, want := range map[string]int{
		"`dalirun docter --bundel x`":                                           1,
		"`dalirun docter`":                                                      1,
		"a `dalirun doctor --bundel x` b":                                       1,
		"`dalirun doctor --bundle`":                                             1,
		"`dalirun doctor stray`":                                                1,
		"`dalirun e2e --max-batch many`":                                        1,
		"`dalirun e2e --accel tpu`":                                             1,
		"```\n$ dalirun serv\ndalirun ps\n```":                                  1,
		"```\nsudo bin/dalirun stap && true\n```":                               1,
		"`--requiregpu`":                                                        1,
		"`DALIRUN_REQUIREGPU`":                                                  1,
		"`go tool task biuld`":                                                  1,
		"```\ngo tool task biuld # really\n```":                                 1,
		"dalirun docter, in a sentence":                                         0,
		"`dalirun`, `dalirun --help`, `--opt-batch`":                            0,
		"`dalirun e2e --max-batch 32 --gpus=all` `DALIRUN_REQUIRE_GPU=true`":    0,
		"```\ndalirun doctor   # see dalirun docter\n```\n`go tool task build`": 0,
		"```\ndalirun e2e >\"$OUT/x\" || exit\n```":                             0,
	} {
		if wrong := wrongCode(snippets(".md", text), tasks); len(wrong) != want {
			t.Errorf("%q: found %q, want %d", text, wrong, want)
		}
	}
	for text, want := range map[string]int{
		"      - run: bin/dalirun docter || true\n":                  1,
		"        run: |\n          exec bin/dalirun e2e --formt x\n": 1,
		"          go build -o bin/dalirun ./cmd/dalirun\n":          0,
		"# about dalirun docter\n":                                   0,
	} {
		if wrong := wrongCode(snippets(".yml", text), tasks); len(wrong) != want {
			t.Errorf("%q: found %q, want %d", text, wrong, want)
		}
	}
}

// snippets returns the code in a document: the lines of a page's fences and what stands in backticks, or a workflow's lines.
func snippets(ext, text string) []string {
	var code []string
	fenced := ext == ".yml"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced && !strings.HasPrefix(line, "#"):
			code = append(code, line)
		case !fenced:
			for i, span := range strings.Split(line, "`") {
				if i%2 == 1 {
					code = append(code, span)
				}
			}
		}
	}
	return code
}

// commandsIn returns the arguments of each dalirun that some code starts.
func commandsIn(code []string) [][]string {
	return argumentsOf(code, `(?:\./)?(?:bin/)?dalirun`)
}

// argumentsOf returns the words behind a program at the begin of a line, a value or a command.
func argumentsOf(code []string, program string) [][]string {
	begins := regexp.MustCompile(`(?:^|run: |\$ |exec |sudo |&& |\|\|? |; )` + program + `(?: ([^|>;&]*))?(?:$|[|>;&])`)
	var all [][]string
	for _, line := range code {
		line, _, _ = strings.Cut(line, " #")
		for _, m := range begins.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
			all = append(all, strings.Fields(strings.ReplaceAll(m[1], `"`, "")))
		}
	}
	return all
}

// wrongCode says what is wrong with code: commands, flags, variables and tasks that are not there.
func wrongCode(code []string, taskfile string) []string {
	var wrong []string
	for _, args := range commandsIn(code) {
		if err := refusal(args); err != nil {
			wrong = append(wrong, fmt.Sprintf("dalirun %s: %v", strings.Join(args, " "), err))
		}
	}
	root := documented()
	for _, span := range code {
		if flag := regexp.MustCompile(`^--([a-z][a-z-]+)`).FindStringSubmatch(span); flag != nil && !anyFlag(root, func(name string) bool { return name == flag[1] }) {
			wrong = append(wrong, span+": no command has this flag")
		}
		for _, variable := range regexp.MustCompile(`\bDALIRUN_[A-Z_]+\b`).FindAllString(span, -1) {
			if !anyFlag(root, func(name string) bool { return config.Variable(name) == variable }) {
				wrong = append(wrong, variable+" sets no flag")
			}
		}
	}
	for _, args := range argumentsOf(code, `go tool task`) {
		args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
		if len(args) > 0 && !regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(args[0])+`:$`).MatchString(taskfile) {
			wrong = append(wrong, "go tool task "+args[0]+": Taskfile.yml has no such task")
		}
	}
	return wrong
}

// refusal is why dalirun would not take some arguments, as far as it knows before it runs; nil if it would.
func refusal(args []string) error {
	root := documented()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if cmd == root && cmd.Flags().NArg() > 0 {
		return fmt.Errorf("there is no command %q", cmd.Flags().Arg(0))
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// anyFlag says whether a flag of any command is meant.
func anyFlag(root *cobra.Command, meant func(string) bool) bool {
	found := false
	for _, c := range root.Commands() {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) { found = found || meant(f.Name) })
	}
	return found
}
