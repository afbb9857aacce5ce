//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// cpu is the CPU lane with local images, for real: the engine of this machine, and a cache that its tests share.
type cpu struct {
	engine engine
	cache  string
	dir    string // where the first run was; its path has spaces and letters beyond ASCII
	first  result // of the run that filled the cache: e2e --format json
}

// firstRun is made by the test that needs it first.
var firstRun struct {
	sync.Mutex
	began bool
	ready *cpu
}

// cpuLane makes the first run of the CPU lane unless another test did. Images that are not there are built by it.
func cpuLane(t *testing.T) cpu {
	t.Helper()
	firstRun.Lock()
	defer firstRun.Unlock()
	if firstRun.ready == nil {
		if firstRun.began {
			t.Fatal("the first run on the CPU lane failed in another test")
		}
		firstRun.began = true
		root := filepath.Dir(dalirun) // goes when all tests are over
		c := cpu{engine: mainEngine(t), cache: filepath.Join(root, "cache"), dir: filepath.Join(root, "Ärger und Spaß", "日本 語")}
		if err := os.MkdirAll(c.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.first = mustRun(t, 0, c.engine, opts{Dir: c.dir, Timeout: 30 * time.Minute}, c.args("e2e", "--format", "json")...)
		firstRun.ready = &c
		t.Logf("the first e2e took %s", c.first.Duration.Round(time.Millisecond))
	}
	return cpu{engine: mainEngine(t), cache: firstRun.ready.cache, dir: firstRun.ready.dir, first: firstRun.ready.first}
}

// args returns a command with the flags of the lane.
func (c cpu) args(command string, flags ...string) []string {
	return append([]string{command, "--accel", "cpu", "--images", "local", "--weights", "random:0", "--cache-dir", c.cache}, flags...)
}

// base returns the image that dalirun builds local images on. It exists once the lane does.
func (c cpu) base(t *testing.T) string {
	t.Helper()
	const usual = "debian:bookworm-slim"
	if named := os.Getenv("DALIRUN_BASE_IMAGE"); named != "" {
		return named
	}
	if _, err := c.engine.client(t).ImageInspect(t.Context(), usual); cerrdefs.IsNotFound(err) {
		return "dalirun/debian-base:bookworm"
	}
	return usual
}

// withOwnCache returns the lane with a copy of the cache, for a test that would disturb others or runs as another user.
func (c cpu) withOwnCache(t *testing.T, u *user) cpu {
	t.Helper()
	if u == nil {
		u = &user{UID: os.Getuid(), GID: os.Getgid()}
	}
	to := filepath.Join(u.folder(t), "cache")
	if err := command(t, "cp", "-a", c.cache, to); err != nil { // -a: the times are part of what is checked
		t.Fatal(err)
	}
	if err := command(t, "chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), to); err != nil {
		t.Fatal(err)
	}
	c.cache = to
	return c
}

// checkNoContainer fails the test if a workspace has containers.
func (c cpu) checkNoContainer(t *testing.T, dir string) {
	t.Helper()
	if left := c.engine.containers(t, workspace(dir)); len(left) != 0 {
		t.Errorf("containers are left: %v", left)
	}
}

func workspace(dir string) string { return filepath.Join(dir, ".dalirun") }

func readReport(t *testing.T, text string) report.Report {
	t.Helper()
	var r report.Report
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&r); err != nil {
		t.Fatalf("stdout is no report: %v\n%s", err, text)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("stdout has more than one JSON object:\n%s", text)
	}
	return r
}

// created lists the containers that a workspace created since a time, by the engine's own account.
func (e engine) created(t *testing.T, workspace string, since time.Time) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stamp := func(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }
	messages, failures := e.client(t).Events(ctx, events.ListOptions{
		Since: stamp(since), Until: stamp(time.Now()),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "create"), filters.Arg("label", container.LabelWorkspace+"="+workspace)),
	})
	var names []string
	for {
		select {
		case m := <-messages:
			names = append(names, m.Actor.Attributes["name"])
		case err := <-failures:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return names
		}
	}
}

func TestCPULane(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := cpuLane(t)
	r := readReport(t, c.first.Stdout)
	if r.Verdict != report.Passed || r.ExitCode != 0 || r.Lane != "cpu" || r.ImageSource != "local" || r.Weights != "random:0" {
		t.Errorf("verdict %s, exit code %d, lane %s, images %s, weights %s", r.Verdict, r.ExitCode, r.Lane, r.ImageSource, r.Weights)
	}
	checkFindings(t, r)
	for _, s := range r.Steps {
		if s.State != pipeline.Done && s.State != pipeline.Cached || s.State == pipeline.Done && s.Seconds <= 0 {
			t.Errorf("step %s: %s after %g s", s.ID, s.State, s.Seconds)
		}
	}
	if len(r.Steps) != 9 { // those of the table of contents but build-engine
		t.Errorf("%d steps", len(r.Steps))
	}
	if !strings.Contains(strings.Join(r.Warnings, "\n"), "labels mean nothing") {
		t.Errorf("no warning of seeded weights: %q", r.Warnings)
	}
	c.checkNoContainer(t, c.dir)
	if made := c.engine.created(t, workspace(c.dir), began); len(made) == 0 {
		t.Log("another test made the first run: its containers are not looked for")
	}

	since := time.Now()
	warm := mustRun(t, 0, c.engine, opts{Dir: c.dir}, c.args("setup", "--format", "json")...)
	t.Logf("a setup that has nothing to do took %s", warm.Duration.Round(time.Millisecond))
	if made := c.engine.created(t, workspace(c.dir), since); len(made) != 0 {
		t.Errorf("a second setup ran containers: %v", made)
	}
	for _, s := range readReport(t, warm.Stdout).Steps {
		if s.State != pipeline.Cached && s.State != pipeline.Skipped {
			t.Errorf("second setup: %s is %s: %v", s.ID, s.State, s.Because)
		}
	}
	if _, err := os.Stat(filepath.Join(workspace(c.dir), "model_repository", "ensemble_dali_resnet50", "config.pbtxt")); err != nil {
		t.Error(err)
	}
}

// checkFindings checks what a report tells beside the steps.
func checkFindings(t *testing.T, r report.Report) {
	t.Helper()
	digests := []string{
		"exporter-image/image", "server-image/image", "weights/weights.pth", "export-onnx/model.onnx", "serialize-dali/model.dali",
		"assemble-repository/model_repository", "reference/tensor.f32", "reference/logits.f32",
	}
	for _, name := range digests {
		if r.Digests[name] == "" {
			t.Errorf("no digest of %s: %v", name, r.Digests)
		}
	}
	if len(r.Top) != 5 {
		t.Errorf("%d classes: %+v", len(r.Top), r.Top)
	}
	for i, class := range r.Top {
		if class.Label == "" || i > 0 && class.Score > r.Top[i-1].Score {
			t.Errorf("class %d of the answer: %+v", i, class)
		}
	}
	if r.Parity == nil || len(r.Parity.Comparisons) != 3 {
		t.Fatalf("parity: %+v", r.Parity)
	}
	for _, comparison := range r.Parity.Comparisons {
		b := comparison.Bound
		if !comparison.OK || comparison.Figures.N == 0 || b.MaxAbs+b.MeanAbs+b.MaxRel == 0 {
			t.Errorf("comparison: %+v", comparison)
		}
	}
	if r.TimeToReadySeconds <= 0 || r.DurationSeconds < r.TimeToReadySeconds {
		t.Errorf("ready after %g s of %g s", r.TimeToReadySeconds, r.DurationSeconds)
	}
}

// TestDamagedCache is about an entry that is no longer what was committed: it is built again with a warning, and never served.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, step, file, command string
		damage                    func(t *testing.T, path string)
	}{
		{"truncated", "serialize-dali", "files/model.dali", "setup", truncate},
		{"edited unseen", "assemble-repository", "files/model_repository/dali/1/model.dali", "e2e", edit},
		{"gone", "serialize-dali", "files/model.dali", "setup", remove},
		{"manifest cut short", "assemble-repository", "manifest.json", "setup", truncate},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := cpuLane(t).withOwnCache(t, nil)
			o := opts{Dir: t.TempDir()}
			path := filepath.Join(c.entry(t, test.step), test.file)
			test.damage(t, path)
			r := mustRun(t, 0, c.engine, o, c.args(test.command, "--format", "json")...)
			report := readReport(t, r.Stdout)
			if warned := strings.Join(report.Warnings, "\n"); !strings.Contains(warned, "built again") {
				t.Errorf("no warning of the damage: %q", report.Warnings)
			}
			if strings.Contains(r.Stderr, test.step+": cached") {
				t.Errorf("a damaged result is called cached first:\n%s", r.Stderr)
			}
			for _, s := range report.Steps {
				if string(s.ID) == test.step && s.State != pipeline.Done {
					t.Errorf("%s is %s: %v", s.ID, s.State, s.Because)
				}
			}
			soundCache(t, c.cache)
			c.checkNoContainer(t, o.Dir)
		})
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// edit changes a byte and nothing that can be seen without reading.
func edit(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], info.Size()/2)
	b[0] ^= 1
	_, writeErr := f.WriteAt(b[:], info.Size()/2)
	if err := errors.Join(err, writeErr, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

// entry returns the folder of a step's only result.
func (c cpu) entry(t *testing.T, step string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.cache, "entries", "*", "*", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var manifest struct{ Entry struct{ Step string } }
		if err := json.Unmarshal(text, &manifest); err != nil {
			t.Fatal(err)
		}
		if manifest.Entry.Step == step {
			return filepath.Dir(path)
		}
	}
	t.Fatalf("%s holds no result of %s", c.cache, step)
	return ""
}

// soundCache fails the test if a cache holds a half-written file: what was in the making, or an entry that is not whole.
func soundCache(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return // killed before it made one
	}
	for _, sub := range []string{"tmp", "locks"} {
		left, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, entry := range left {
			t.Errorf("%s is left in the cache", filepath.Join(sub, entry.Name()))
		}
	}
	cache, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	fingerprints, err := os.ReadDir(filepath.Join(dir, "entries"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fp := range fingerprints {
		entry, err := cache.Get(pipeline.Fingerprint(fp.Name()))
		if err != nil {
			t.Errorf("entry %s: %v", fp.Name(), err)
			continue
		}
		if err := errors.Join(entry.Verify(), entry.Close()); err != nil {
			t.Errorf("entry %s: %v", fp.Name(), err)
		}
	}
}
