package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/owner"
)

// The README names all that is left in a workspace, and nothing else.
func TestREADMESaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(docsDir, "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "\n## What it leaves\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		told = append(told, strings.TrimSuffix(row[1], "/"))
	}
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	workspace := filepath.Join(t.TempDir(), ".dalirun")
	env := map[string]string{"DOCKER_HOST": engine.Host(), "XDG_CACHE_HOME": t.TempDir()}
	run := func(args ...string) []string {
		t.Helper()
		var out bytes.Buffer
		if code := appIn(env, &out, &out).Run(t.Context(), append(args, "--workspace", workspace)); code != ExitOK {
			t.Fatalf("%q: exit code %d\n%s", args, code, &out)
		}
		entries, err := os.ReadDir(workspace)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	run("setup", "--accel", "cpu", "--weights", "random:0")
	left := run("serve", "--detach", "--accel", "cpu", "--weights", "random:0")
	left = append(left[:0], run("reload")...) // which has nothing to do
	slices.Sort(told)
	if diff := cmp.Diff(told, left); diff != "" {
		t.Errorf("(-the README +a detached serve after a setup):\n%s", diff)
	}
	if left := run("stop"); slices.Contains(left, "server.json") {
		t.Errorf("stop left %q", left)
	}
	hours := fmt.Sprintf(" %d h after that", int(owner.BatchExpiry.Hours()))
	logs := fmt.Sprintf("the logs of the last %d runs", gc.KeptRuns)
	for _, words := range []string{hours, logs, string(owner.Orphaned), string(owner.Expired)} {
		if !strings.Contains(section, words) {
			t.Errorf("the section does not say %q", words)
		}
	}
}
