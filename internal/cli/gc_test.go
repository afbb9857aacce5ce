package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// A workspace can need two entries: what its link names, and what its server, of an earlier run, serves.
func TestNeeded(t *testing.T) {
	t.Parallel()
	cache, err := store.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	workspace := filepath.Join(t.TempDir(), "w")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(workspace, repositoryLink)
	serves := func(repository string) error {
		return owner.WriteServer(workspace, owner.ServerFile{Container: "1", Run: "r1", Repository: repository})
	}
	first, second := pinned(t, cache, "first", workspace), pinned(t, cache, "second", workspace)
	check := func(when string, want ...string) {
		t.Helper()
		var kept []string
		if err := cache.Unpin(t.Context(), func(p store.Pin) bool {
			for _, path := range []string{first, second} {
				if needed(p) && p.Holds(path) {
					kept = append(kept, path)
				}
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(kept)
		slices.Sort(want)
		if !slices.Equal(kept, want) {
			t.Errorf("%s: %q are kept, want %q", when, kept, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("no link and no server")
	must(os.Symlink(first, link))
	check("a link", first)
	must(serves(first))
	check("a server of the same", first)
	must(os.Remove(link))
	must(os.Symlink(second, link))
	check("a server of what was linked before", first, second)
	must(os.WriteFile(owner.ServerPath(workspace), []byte("{"), 0o600))
	check("a server file that is damaged", first, second)
	must(owner.RemoveServer(workspace))
	check("the server is stopped", second)
	must(os.RemoveAll(workspace))
	check("the workspace is gone")
}

// pinned stores an entry that workspace pins, and returns the path of its output.
func pinned(t *testing.T, cache *store.Store, fp pipeline.Fingerprint, workspace string) string {
	t.Helper()
	tx, err := cache.Begin(t.Context(), fp, nil)
	if err == nil {
		err = os.Mkdir(filepath.Join(tx.Dir(), "repository"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := tx.Commit("assemble-repository", nil, []string{"repository"})
	if err != nil {
		t.Fatal(err)
	}
	path := e.Values()["repository"].Path
	if err := errors.Join(cache.Pin(t.Context(), path, workspace, func() error { return nil }), e.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

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
	slices.Sort(told)
	if diff := cmp.Diff(told, left); diff != "" {
		t.Errorf("(-the README +a detached serve after a setup):\n%s", diff)
	}
	if left := run("stop"); slices.Contains(left, "server.json") {
		t.Errorf("stop left %q", left)
	}
	hours := fmt.Sprintf(" %d h after that", int(batchExpiry.Hours()))
	logs := fmt.Sprintf("the logs of the last %d runs", keptRuns)
	for _, words := range []string{hours, logs, string(owner.Orphaned), string(owner.Expired)} {
		if !strings.Contains(section, words) {
			t.Errorf("the section does not say %q", words)
		}
	}
}
