package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// slowRuntime lists a container of a dead run only from the third look on, as an engine does that still creates it.
type slowRuntime struct {
	containertest.Fake
	late  container.Summary
	looks atomic.Int32
	gone  atomic.Bool
}

func (r *slowRuntime) List(context.Context, container.Labels) ([]container.Summary, error) {
	if r.looks.Add(1) < 3 || r.gone.Load() {
		return nil, nil
	}
	return []container.Summary{r.late}, nil
}

func (r *slowRuntime) Remove(context.Context, string) error {
	r.gone.Store(true)
	return nil
}

// livingRun is the workspace in which this program is only a run that waits for its death.
const livingRun = "DALIRUN_TEST_LIVING_RUN"

// killedRun leaves a workspace as a run does that was killed.
func killedRun(t *testing.T, workspace string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSweepAfterAKill$")
	cmd.Env = append(os.Environ(), livingRun+"="+workspace)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() }) // the process is gone by then
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "living\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
}

// TestSweepAfterAKill holds that what the container engine creates for a run after its death goes too, whenever that was, and that
// nobody waits for that otherwise.
func TestSweepAfterAKill(t *testing.T) {
	t.Parallel()
	if workspace := os.Getenv(livingRun); workspace != "" {
		if _, err := owner.Acquire(workspace, "r1"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("living")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	me, err := owner.Here(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		before func(t *testing.T, workspace string)
		starts int // at once
		waits  bool
	}{
		"killed":            {killedRun, 1, true},
		"killed, two start": {killedRun, 2, true},
		"killed long ago": {func(t *testing.T, workspace string) {
			t.Helper()
			killedRun(t, workspace)
			if err := os.Chtimes(filepath.Join(owner.RunDir(workspace, "r1"), "lock"), hour, hour); err != nil {
				t.Fatal(err)
			}
		}, 1, true},
		"ended in order": {func(t *testing.T, workspace string) {
			t.Helper()
			lock, err := owner.Acquire(workspace, "r1")
			if err != nil || lock.Release() != nil {
				t.Fatal(err)
			}
		}, 1, false},
		"it lives": {func(t *testing.T, workspace string) {
			t.Helper()
			lock, err := owner.Acquire(workspace, "r1")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			})
		}, 1, false},
		"no run yet": {func(*testing.T, string) {}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workspace := filepath.Join(t.TempDir(), "a [strange] *name")
			tt.before(t, workspace)
			r := &slowRuntime{late: container.Summary{ID: "1", Name: "late", Labels: container.Labels{
				container.LabelRun: "r0", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
				container.LabelRole: string(container.RoleBatch),
			}}}
			sweep := func(waits bool) {
				start := time.Now()
				_, err := sweepContainers(t.Context(), r, me, workspace, false)
				if took := time.Since(start); err != nil || (took >= inFlight) != waits || took > inFlight+time.Second {
					t.Errorf("after %s: %v", took, err)
				}
			}
			var wg sync.WaitGroup
			for range tt.starts {
				wg.Go(func() { sweep(tt.waits) })
			}
			wg.Wait()
			if r.gone.Load() != tt.waits {
				t.Errorf("of what came late it removed everything: %t", r.gone.Load())
			}
			r.gone.Store(true)
			sweep(false)
		})
	}
}

// TestSweepCutOff holds that a sweep after a kill that could not go on to its end is done again.
func TestSweepCutOff(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	dir := owner.RunDir(workspace, "r1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil { // as a killed run leaves it
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), inFlight/4)
	defer cancel()
	r := &slowRuntime{}
	r.gone.Store(true)
	_, err := sweepContainers(ctx, r, owner.Identity{Host: "here"}, workspace, false)
	if !errors.Is(err, context.DeadlineExceeded) || len(owner.Killed(workspace)) != 1 {
		t.Errorf("%v, and killed were %v", err, owner.Killed(workspace))
	}
}

// The oldest runs go, unless one still lives.
func TestDropRuns(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	for _, id := range []string{"20260103T000000Z-c", "20260101T000000Z-a", "20260104T000000Z-d", "20260102T000000Z-b"} {
		lock, err := owner.Acquire(workspace, id)
		if err != nil {
			t.Fatal(err)
		}
		if id == "20260101T000000Z-a" {
			defer lock.Release() //nolint:errcheck // of a run that lives
		} else if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := dropRuns(workspace, 2); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(owner.RunsDir(workspace), "*"))
	if err != nil || len(left) != 3 || owner.RunDir(workspace, "20260101T000000Z-a") != left[0] || filepath.Base(left[1]) != "20260103T000000Z-c" {
		t.Errorf("left are %q, %v", left, err)
	}
	if err := dropRuns(workspace, 3); err != nil {
		t.Errorf("few runs: %v", err)
	}
}

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
